"""What a connection meets at this side: the machine's drives, the options, and the incoming migration."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.migration.destination.claim import Claim
from qmon.migration.destination.course import Course
from qmon.migration.destination.forwarding import Forwarding
from qmon.migration.destination.handover import Handover
from qmon.migration.destination.interruption import Interruption
from qmon.migration.destination.inventory import Inventory
from qmon.migration.destination.options import Options
from qmon.migration.destination.records import Records


@dataclass(frozen=True, slots=True)
class Side:
    """For all connections' threads."""

    inventory: Inventory
    options: Options
    course: Course
    claim: Claim
    records: Records
    handover: Handover
    interruption: Interruption
    forwarding: Forwarding

"""What the parts of one source share."""

from __future__ import annotations

from dataclasses import dataclass
from uuid import UUID

from qmon.migration.parameters import Parameters
from qmon.migration.patience import Patience
from qmon.migration.progress import Progress
from qmon.migration.source.disks import Disks
from qmon.migration.source.options import Options
from qmon.migration.source.sender import Sender
from qmon.migration.source.steps import Steps


@dataclass(frozen=True, slots=True)
class Context:
    """A migration's identity, its orders, and the state that its parts work on."""

    id: UUID
    options: Options
    parameters: Parameters
    patience: Patience
    disks: Disks
    sender: Sender
    steps: Steps
    progress: Progress

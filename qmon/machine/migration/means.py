"""What the migrations of a machine, of either direction, work with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from qmon.machine.machine import Machine
from qmon.machine.migration.clients import ForwardedClients
from qmon.machine.migration.places import Places
from qmon.machine.migration.security import MigrationSecurity
from qmon.machine.migration.settings import MigrationSettings
from qmon.migration.journal import Journal
from qmon.migration.patience import Patience
from qmon.migration.phases import Phase


@dataclass(frozen=True, slots=True)
class Means:
    """``tell`` is called after each change of a phase."""

    machine: Machine
    settings: MigrationSettings
    security: MigrationSecurity
    places: Places
    clients: ForwardedClients
    journal: Journal
    patience: Patience
    tell: Callable[[Phase], None]

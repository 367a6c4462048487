"""What an offer is compared with: the drives of the machine that waits."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from qmon.migration.backing import Leftovers
from qmon.migration.drive import MigratingDrive


@dataclass(frozen=True, slots=True)
class Inventory:
    """For data threads. Drives may be added and removed until a migration is offered."""

    list_drives: Callable[[], Sequence[MigratingDrive]]
    list_empty: Callable[[], Collection[str]]
    uuid: UUID | None
    """The machine's UUID, None if it has none."""
    leftovers: Leftovers = field(default_factory=Leftovers)
    """What failed copies have left in its images; used by the connection that has the migration."""

    @property
    def drives(self) -> Sequence[MigratingDrive]:
        """The current drives."""
        return self.list_drives()

    @property
    def empty(self) -> Collection[str]:
        """The ids of the drives that have no medium now."""
        return self.list_empty()

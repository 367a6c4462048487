"""The journal records of a source: for each image that guests write to, which side may use it."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from qmon.errors import QmonError
from qmon.migration.drive import MigratingDrive
from qmon.migration.journal import Entry, Journal
from qmon.migration.phases import Role, Stand
from qmon.migration.source.orders import Orders
from qmon.migration.source.recovery import Recovery
from qmon.migration.wire.offer import Mode

_ANEW = ": migrate_cancel on both sides, then migrate again"


class Records:
    """The records of one migration. All calls raise JournalError."""

    def __init__(
        self,
        journal: Journal,
        id: UUID,
        mode: Mode,
        drives: Sequence[MigratingDrive],
        orders: Orders,
        recovery: Recovery,
        entry: Entry | None,
    ) -> None:
        """``entry`` is one of them that was found at the start."""
        self._journal = journal
        self._id = id
        self._mode = mode
        self._drives = [drive for drive in drives if not drive.read_only]
        self._orders = orders
        self._recovery = recovery
        self.digest = 0 if entry is None else entry.digest
        """The digest of what was sent, by which the destination knows that GO is for what it has."""
        self.was_running = True if entry is None else entry.resume
        """Whether the machine ran when the gates closed."""
        self._may_exist = entry is not None

    def write(self, stand: Stand) -> None:
        """Record on stable storage which side may use the images."""
        self._may_exist = True  # even if it fails: a record may have been written
        self._write(self._drives, stand)

    def write_copying(self) -> None:
        """Record that the migration can be resumed, if both sides have agreed on it."""
        if self._recovery.is_agreed:
            self.write(Stand.COPYING)

    def _write(self, drives: Sequence[MigratingDrive], stand: Stand) -> None:
        self._journal.write(*(self._entry(drive, stand) for drive in drives))

    def _entry(self, drive: MigratingDrive, stand: Stand) -> Entry:
        recovery, route = self._recovery, self._orders.route
        return Entry(
            drive.image,
            self._id.hex,
            stand,
            route.transport.uri,
            self.digest,
            self.was_running,
            self._mode is Mode.SHARED,
            route.has_tls,
            *((self._mode.value, drive.id, drive.size, recovery.line) if recovery.is_agreed else ()),
        )

    def forget(self) -> None:
        """Remove the records of this migration, and of no other.

        Records of another host can't be removed; they are overruled instead.
        """
        if not self._may_exist:
            return
        self._journal.forget(self._id, Role.SOURCE)
        self._may_exist = False
        self._write([drive for drive in self._drives if self._is_recorded(drive)], Stand.KEPT)

    def _is_recorded(self, drive: MigratingDrive) -> bool:
        found = self._journal.find(drive.image)
        return any(each.entry.id == self._id and each.entry.role is Role.SOURCE for each in found)

    def check(self) -> None:
        """After a restart: raises QmonError if the drives are not those that the paused migration copies."""
        found = self._journal.of_migration(self._id, Role.SOURCE)
        recorded = {each.entry.drive: each.entry for each in found}
        for drive in self._drives:
            entry = recorded.pop(drive.id, None)
            if entry is None:
                why = "is not one of those that the paused migration copies"
            elif all(each.entry.id != self._id for each in self._journal.find(drive.image)):
                why = "has another image than the paused migration copies"
            elif entry.size != drive.size:
                why = f"had {entry.size} bytes when the migration began, and has {drive.size} now"
            else:
                continue
            raise QmonError(f"drive '{drive.id}' {why}{_ANEW}")
        for name in recorded:
            raise QmonError(f"drive '{name}', which the paused migration copies, is not here any more{_ANEW}")

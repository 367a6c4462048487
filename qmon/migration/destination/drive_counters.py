"""One thread's statistics of the drives that it serves for a source's clients."""

from __future__ import annotations

from qmon.block.accounts import Accounts, Counters
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.forward import Operation


class DriveCounters:
    """The counters by drive. ``close`` them at the end."""

    def __init__(self) -> None:
        self._open: dict[MigratingDrive, tuple[Accounts, Counters]] = {}

    def of(self, drive: MigratingDrive) -> Counters:
        """Return the counters of a drive."""
        if (found := self._open.get(drive)) is None:
            accounts = drive.guest.accounts
            found = self._open[drive] = (accounts, accounts.open())
        return found[1]

    def count(self, drive: MigratingDrive, operation: Operation, length: int, started_ns: int) -> None:
        """Count a finished request that began at ``started_ns``."""
        counters = self.of(drive)
        match operation:
            case Operation.READ:
                counters.count_read(length, started_ns)
            case Operation.WRITE | Operation.ZERO:
                counters.count_write(length, started_ns)
            case Operation.DISCARD:
                counters.count_discard(length, started_ns)
            case Operation.FLUSH:
                counters.count_flush(started_ns)

    def close(self) -> None:
        """Give the counters back."""
        for accounts, counters in self._open.values():
            accounts.close(counters)
        self._open.clear()

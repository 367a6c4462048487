"""Which drives are in use by something that allows no other change of them."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator

from qmon.errors import CommandError
from qmon.machine.drive import Drive


class DriveUse:
    """Commands that change a drive, and what asks before it starts."""

    def __init__(self) -> None:
        self._changing: dict[str, str] = {}
        """By the drive's id: what is done to it."""
        self.holder: Callable[[str], str | None] = lambda id: None
        """Returns what else uses the drive with an id, None if nothing does."""

    def check_not_busy(self, drive: Drive) -> None:
        """Raises CommandError with QEMU's message if a drive is busy."""
        holder = self.holder(drive.id)
        if holder is not None:
            raise CommandError(f"Node '{drive.id}' is busy: block device is in use by {holder}")
        self.check_not_changing(drive)

    def check_not_changing(self, drive: Drive) -> None:
        """Raises CommandError with QEMU's message if a command is changing a drive."""
        what = self._changing.get(drive.id)
        if what is not None:
            raise CommandError(f"Node '{drive.id}' is busy: block device is in use by {what}")

    @contextlib.contextmanager
    def changing(self, drive: Drive, what: str) -> Iterator[None]:
        """Keep other changes of a drive, and migrations, from starting while ``what`` is done to it.

        Raises CommandError with QEMU's message if the drive is busy.
        """
        self.check_not_busy(drive)
        self._changing[drive.id] = what
        try:
            yield
        finally:
            del self._changing[drive.id]

    def check_may_add(self, id: str) -> None:
        """Raises CommandError if no drive with this id may be added."""
        holder = self.holder(id)
        if holder is not None:
            raise CommandError(f"drive '{id}' can't be added while a {holder} is under way")

    def check_may_migrate(self, drives: Iterable[Drive]) -> None:
        """Raises CommandError if a drive is being changed, or has not opened its image."""
        for drive in drives:
            self.check_not_changing(drive)
            if drive.is_waiting:
                raise CommandError(
                    f"drive '{drive.id}' uses an image that another drive has open: remove one of them"
                )

"""The drives of a source: guests' writes are marked, then the images are let go, or taken back."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence

from qmon.errors import QmonError
from qmon.migration.drive import GATE_REASON, MigratingDrive, flushing
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.errors import LinkError
from qmon.migration.wire.offer import Offer

DRAIN_TIMEOUT = 10
"""Seconds to wait for the requests inside a gate before the copy begins; then the migration fails."""


class UndrainedError(QmonError):
    """A request inside a gate did not finish in time."""


class Disks:
    """For the migration's thread."""

    def __init__(self, drives: Sequence[MigratingDrive]) -> None:
        self.drives = list(drives)
        self.copies: list[DriveCopy] = []
        """The drives that are copied."""

    @property
    def total(self) -> int:
        """Bytes to copy if guests write nothing meanwhile."""
        return sum(copy.total for copy in self.copies)

    @property
    def dirty_bytes(self) -> int:
        """Bytes that are marked."""
        return sum(copy.dirty.dirty_bytes for copy in self.copies)

    @property
    def remaining(self) -> int:
        """Bytes that are not yet in a record."""
        return sum(copy.remaining for copy in self.copies)

    @contextlib.contextmanager
    def sparing_page_cache(self) -> Iterator[None]:
        """Inside, reads of this thread leave this host's page cache as they found it."""
        with contextlib.ExitStack() as stack:
            for drive in self.drives:
                stack.enter_context(drive.sparing_page_cache())
            yield

    # While it is copied.

    def needed(self, offer: Offer, index: int) -> DriveCopy:
        """Return the new copy of a read-only drive that the destination asks for. Raises LinkError."""
        lacks = index < len(self.drives) and offer.drives[index].content is not None
        if not lacks or any(copy.index == index for copy in self.copies):
            raise LinkError(f"the destination asked for drive {index}, which was not offered for a copy")
        copy = DriveCopy(index, self.drives[index])
        self.copies.append(copy)
        return copy

    def track(self) -> None:
        """Mark guests' writes from now on. Raises UndrainedError."""
        for copy in self.copies:
            _track(copy)

    def survey(self, pulse: Callable[[], None]) -> None:
        """Mark what must be sent; calls ``pulse`` often. Raises QmonError, or what ``pulse`` raises."""
        for copy in self.copies:
            copy.survey(pulse)

    # The gates.

    def close_gates(self, seconds: float) -> None:
        """Close all gates, and wait for the requests inside. Raises UndrainedError."""
        deadline = time.monotonic() + seconds
        for drive in self.drives:
            _close_gate(drive, max(0.0, deadline - time.monotonic()))

    def open_gates(self) -> None:
        """Admit the guests' requests again."""
        for drive in self.drives:
            drive.gate.open(GATE_REASON)

    # The end.

    def let_go(self) -> None:
        """Close the images behind closed gates; all that the other host will read was flushed."""
        for copy in self.copies:
            copy.uninstall()
        for drive in self.drives:
            with flushing(drive):
                drive.deactivate(flush=False)

    def take_back(self, *, stay_tracked: bool) -> None:
        """Give the drives back to the machine as they were; ``stay_tracked``: their writes are still marked.

        Raises OSError if an image can't be opened.
        """
        for copy in self.copies:
            copy.uninstall()
        try:
            for drive in self.drives:
                drive.activate()
            if stay_tracked:
                for copy in self.copies:
                    copy.install()
        finally:
            # Open all gates: requests to an image that could not be opened must fail, not wait.
            for drive in self.drives:
                drive.gate.reopen()
                drive.gate.open(GATE_REASON)


def track_clean(copy: DriveCopy) -> None:
    """Mark guests' writes from now on to a drive of which the destination has most. Raises UndrainedError."""
    copy.start_clean()
    _track(copy)


def _track(copy: DriveCopy) -> None:
    _close_gate(copy.drive, DRAIN_TIMEOUT)
    try:
        copy.install()
    finally:
        copy.drive.gate.open(GATE_REASON)


def _close_gate(drive: MigratingDrive, seconds: float) -> None:
    if not drive.gate.close(GATE_REASON, seconds):
        raise UndrainedError(f"drive '{drive.id}': a request did not finish within {seconds:.0f} s")

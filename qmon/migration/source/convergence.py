"""The copy while the machine runs: rounds and flushes, until the rest fits into the downtime limit."""

from __future__ import annotations

import time
from concurrent.futures import wait

from qmon.host.threads import Workers
from qmon.migration.drive import flushing
from qmon.migration.source.bitmaps import MovingBitmaps
from qmon.migration.source.context import Context
from qmon.migration.source.errors import out_of_turn
from qmon.migration.source.link import Link
from qmon.migration.source.observer import Observer
from qmon.migration.timeline import Mark
from qmon.migration.wire.answers import Type
from qmon.migration.wire.offer import Mode
from qmon.notation.units import human_size

FLUSH_TIMEOUT = 600
"""Seconds within which the destination must flush while the machine runs."""

MAX_FLUSHES = 5
"""How often both sides flush while the machine runs. Each flush has less to do, so the last one is short."""

SIGN_CHECK_SECONDS = 0.1


class Convergence:
    """Copies until the destination is almost up to date. For the migration's thread.

    All calls raise the error that ends the migration.
    """

    def __init__(self, context: Context, observer: Observer, bitmaps: MovingBitmaps) -> None:
        self._shared = context.options.mode is Mode.SHARED
        self._disks = context.disks
        self._parameters = context.parameters
        self._sender = context.sender
        self._progress = context.progress
        self._observer = observer
        self._bitmaps = bitmaps

    def reach(self, link: Link) -> None:
        """Copy until the machine can be paused for the rest."""
        if self._shared:
            if self._bitmaps:
                self.round()
            self.flush_while_running()
            return
        flushes = 0
        flush_seconds = 0.0
        while True:
            self.round()
            expected = self._expected_downtime(link)
            if expected is None or not self._fits(expected):
                if not self._disks.dirty_bytes:
                    self._sender.wait_applied(0.01)
            elif flushes and (self._fits(expected + flush_seconds) or flushes == MAX_FLUSHES):
                return
            else:
                flush_seconds = self._flush(link)
                flushes += 1

    def go_back(self, link: Link) -> None:
        """Take back FINISH. A PREPARED that is under way is ignored, and the measured rate is dropped."""
        self._sender.begin_part()
        self._sender.writer.back()
        self._sender.expect(Type.PREPARED, Type.BACK)
        self._sender.end_part()
        while not link.is_one_way:
            if link.wait_for(Type.PREPARED, Type.BACK, timeout=FLUSH_TIMEOUT).type is Type.BACK:
                break

    def copy_on(self, link: Link, seconds: float) -> None:
        """Copy for some seconds, even if the rest already fits into the downtime limit."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self._disks.dirty_bytes:
                self.round()
            else:
                self._sender.show_life()
                link.check()
                time.sleep(SIGN_CHECK_SECONDS)

    def flush_drives(self) -> None:
        """Flush the drives now, so that the flush at their release is short."""
        for drive in self._disks.drives:
            if drive.is_flushed_on_leaving or (self._shared and not drive.read_only):
                with flushing(drive):
                    drive.node.flush()

    def round(self) -> None:
        """Send all dirty chunks once, and the new marks of bitmaps."""
        self._sender.begin_part()
        for copy in self._disks.copies:
            copy.send_dirty(self._sender)
        self._bitmaps.send(self._sender)
        self._sender.end_part()
        self._progress.rounds += 1
        written = human_size(self._disks.dirty_bytes)
        self._progress.timeline.mark(Mark.ROUND, f"{written} were written meanwhile")

    def _expected_downtime(self, link: Link) -> float | None:
        """Return the seconds that all dirty and unconfirmed bytes will take, None while that is not known."""
        left = self._disks.dirty_bytes + self._sender.in_flight + self._bitmaps.unsent_bytes
        if not left:
            expected = 0.0
        elif rate := self._rate():
            expected = left / rate + self._bitmaps.seconds
        else:
            return None
        self._progress.expected_downtime = expected
        return expected

    def _rate(self) -> float:
        """Return the expected bytes per second during the switchover, 0 while that is not known."""
        measured, promised = self._progress.rate, self._parameters.switchover_bandwidth
        if promised and self._progress.overdue:  # the configured rate was too high
            return min(promised, measured)
        return promised or measured

    def _fits(self, seconds: float) -> bool:
        return seconds * 1000 <= self._parameters.downtime_limit_ms

    def _flush(self, link: Link) -> float:
        """Flush both sides while the machine runs; return how many seconds it took."""
        begun = time.monotonic()
        if link.is_one_way:
            self.flush_while_running()
            return time.monotonic() - begun
        self._sender.settle()
        self._sender.begin_part()
        sequence = self._sender.writer.flush()
        self._sender.expect(Type.FLUSHED)
        self._sender.end_part()
        self.flush_while_running()
        if link.wait_for(Type.FLUSHED, timeout=FLUSH_TIMEOUT).number != sequence:
            raise out_of_turn(Type.FLUSHED)
        self._observer.begin_again()
        took = time.monotonic() - begun
        self._progress.timeline.mark(Mark.FLUSH, f"both sides flushed in {took * 1000:.0f} ms")
        return took

    def flush_while_running(self) -> None:
        """Flush this side's drives without a time limit, and show the destination that this side is alive."""
        with Workers(1, "migration-flush") as executor:
            flushed = executor.submit(self.flush_drives)
            while not wait([flushed], SIGN_CHECK_SECONDS).done:
                self._sender.show_life()
            flushed.result()

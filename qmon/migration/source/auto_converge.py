"""The capability auto-converge: holds back guests' writes, step by step, until the copy gains on them.

The rules are QEMU's for processors (migration/ram.c), applied to writes. The first pass through the disks
does not count. Then, whenever guests have made dirty more than ``throttle-trigger-threshold`` per cent of
what was copied in a second, twice, the share that is held back grows. It is a share of what they wrote
before, and the same for each drive.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from qmon.block.hold_back import Allowance, HoldBackFilter
from qmon.migration.parameters import Parameters
from qmon.migration.progress import Progress
from qmon.migration.source.copy import DriveCopy
from qmon.migration.timeline import Mark

PERIOD_SECONDS = 1.0
"""The time that is judged."""

PERIODS = 2
"""How many periods with too many writes lead to the next step."""


def next_percentage(now: int, ratio: float, parameters: Parameters) -> int:
    """Return the per cent to hold back after ``now``; 0 is nothing yet.

    ``ratio`` is what may be made dirty, divided by what was.
    """
    most = int(parameters["max-cpu-throttle"])
    if not now:
        return min(int(parameters["cpu-throttle-initial"]), most)
    step = int(parameters["cpu-throttle-increment"])
    if parameters["cpu-throttle-tailslow"]:
        left = 100 - now
        step = min(step, round(left - left * ratio))
    return min(now + step, most)


class _Held:
    """A drive whose writes are held back."""

    def __init__(self, copy: DriveCopy) -> None:
        self.copy = copy
        self.allowance = Allowance()
        self._filter: HoldBackFilter | None = None

    def hold(self, rate: float) -> None:
        self.allowance.allow(rate)
        if self._filter is None:  # the gate is open: requests that miss the filter do no harm
            drive = self.copy.drive
            self._filter = drive.stack.push(
                lambda node: HoldBackFilter(node, self.allowance, drive.gate, self.copy.dirty.span)
            )

    def release(self) -> None:
        self.allowance.allow(0)
        if self._filter is not None:
            self.copy.drive.stack.pop(self._filter)
            self._filter = None


class AutoConverge:
    """``look`` is for the migration's thread, the rest for any."""

    def __init__(
        self,
        parameters: Parameters,
        progress: Progress,
        copies: Callable[[], Sequence[DriveCopy]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._parameters = parameters
        self._progress = progress
        self._copies = copies
        self._clock = clock
        self._lock = threading.Lock()
        self._is_over = False
        self._held: list[_Held] = []
        self._begun: float | None = None
        """When the period began that is under way."""
        self._before = (0, 0)
        self._written: list[int] = []
        self._exceeded = 0
        self._rates: list[float] = []
        """What guests wrote to each drive before it was held back, in bytes per second."""

    @property
    def can_do_more(self) -> bool:
        """Whether more can be held back."""
        return self._progress.throttle < int(self._parameters["max-cpu-throttle"])

    def look(self) -> None:
        """Judge the copy, once a period. Call it while guests write, often."""
        now = self._clock()
        if not self._progress.rounds or (self._begun is not None and now - self._begun < PERIOD_SECONDS):
            return
        copies = self._copies()
        before, self._before = (
            self._before,
            (
                sum(copy.dirty.marked_bytes for copy in copies),
                sum(copy.passed for copy in copies),
            ),
        )
        written, self._written = self._written, [copy.dirty.written_bytes for copy in copies]
        begun, self._begun = self._begun, now
        if begun is None:
            return
        dirtied, passed = (after - earlier for after, earlier in zip(self._before, before, strict=True))
        allowed = passed * self._parameters["throttle-trigger-threshold"] / 100
        if dirtied <= allowed:
            return
        self._exceeded += 1
        if self._exceeded >= PERIODS:
            self._exceeded = 0
            if not self._progress.throttle:
                self._rates = [
                    (after - earlier) / (now - begun)
                    for after, earlier in zip(self._written, written, strict=True)
                ]
            self._hold(next_percentage(self._progress.throttle, allowed / dirtied, self._parameters))

    def _hold(self, percentage: int) -> None:
        total = sum(self._rates)
        if percentage == self._progress.throttle or not total:  # only zeros are written
            return
        with self._lock:
            if self._is_over:
                return
            self._held = self._held or [_Held(copy) for copy in self._copies()]
            for held, rate in zip(self._held, self._rates, strict=True):
                # A drive that nobody wrote to has a share, too, for those who begin to.
                held.hold(max(rate, total / len(self._held)) * (100 - percentage) / 100)
            self._progress.throttle = percentage
        self._progress.timeline.mark(Mark.SETTING, f"guests' writes are held back by {percentage} %")

    def begin(self) -> None:
        """Hold back what is necessary from now on."""
        self._is_over, self._begun, self._exceeded = False, None, 0

    def stop(self) -> None:
        """Hold nothing back any more, until ``begin``; writes that wait continue."""
        with self._lock:
            self._is_over = True
            for held in self._held:
                held.release()
            self._held = []
            self._progress.throttle = 0

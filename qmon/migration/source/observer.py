"""Observes a copy: notes its figures now and then, and reports when it has no gain on its guests' writes."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from qmon.migration.parameters import Parameters
from qmon.migration.progress import DriveFigures, Progress
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.course import RATE_SECONDS, Course, Rates, Sample
from qmon.migration.source.gain import Limits, Stuck, judge

TELL_AGAIN_SECONDS = 60
"""The shortest time between two reports, so that a copy at the limit does not report all the time."""


class Observer:
    """For the migration's thread; any thread may read ``rates``, ``stuck`` and ``drive_figures``.

    ``copies`` returns the drives that are copied, ``in_flight`` the bytes that are not yet confirmed.
    ``is_copying`` says whether guests write meanwhile. ``tell`` is called with each new report.
    ``regulate`` is called now and then while they do, and returns whether it has more to try before a
    person is told.
    """

    def __init__(
        self,
        parameters: Parameters,
        progress: Progress,
        *,
        copies: Callable[[], Sequence[DriveCopy]],
        in_flight: Callable[[], int],
        is_copying: Callable[[], bool],
        tell: Callable[[Stuck], None],
        seconds: float,
        regulate: Callable[[], bool] = lambda: False,
    ) -> None:
        self._stuck: Stuck | None = None
        self._parameters = parameters
        self._progress = progress
        self._copies = copies
        self._in_flight = in_flight
        self._is_copying = is_copying
        self._tell = tell
        self._regulate = regulate
        self._seconds = seconds
        self._course = Course(self._look, seconds)
        self._since = 0.0
        """When the copy began with these limits, or went on after a flush."""
        self._limits = self._current_limits()
        self._told = -float(TELL_AGAIN_SECONDS)
        self._was_changed = False
        """Whether the copy had no gain with earlier limits, and has not gained since. It is judged sooner."""

    def rates(self) -> Rates | None:
        """Return the rates of the last seconds, None if nothing is copied or they are not known."""
        return self._course.rates() if self._copies() and self._is_copying() else None

    @property
    def stuck(self) -> Stuck | None:
        """Why the copy has no gain at present, None if it has, or has ended."""
        return self._stuck if self._is_copying() else None

    @property
    def drive_figures(self) -> list[DriveFigures]:
        """Return the figures of each drive that is copied."""
        return [
            DriveFigures(copy.drive.id, copy.sent, copy.remaining, copy.total)
            for copy in list(self._copies())
        ]

    @property
    def written(self) -> int:
        """Bytes that guests have written since the copy began, in chunks."""
        return sum(copy.dirty.written_bytes for copy in list(self._copies()))

    def note(self) -> None:
        """Note the figures, and judge them. Call it often; mostly it only looks at the clock."""
        if self._course.note():
            self._judge()

    def begin_again(self) -> None:
        """Judge from now on only: the time before was not spent copying, or not with these limits."""
        self._since, self._stuck = time.monotonic(), None

    def _look(self) -> Sample:
        copies = self._copies()
        in_flight = self._in_flight()
        return Sample(
            time.monotonic(),
            self._progress.transferred,
            sum(copy.passed for copy in copies),
            tuple(copy.dirty.written_bytes for copy in copies),
            sum(copy.remaining for copy in copies) + in_flight,
        )

    def _current_limits(self) -> Limits:
        return Limits(self._parameters.max_bandwidth, self._parameters.downtime_limit_ms)

    def _judge(self) -> None:
        limits, now = self._current_limits(), time.monotonic()
        if limits != self._limits:
            self._limits, self._told = limits, -float(TELL_AGAIN_SECONDS)
            self._was_changed |= self._stuck is not None
            self.begin_again()
        if not self._is_copying() or self._regulate():
            self.begin_again()
        samples = self._course.since(self._since)
        seconds = min(RATE_SECONDS, self._seconds) if self._was_changed else self._seconds
        if not samples or now - samples[0].at < seconds:
            return
        before = self._stuck
        drives = [copy.drive.id for copy in self._copies()]
        self._stuck = judge(
            samples, drives, limits, was_stuck=before is not None, was_changed=self._was_changed
        )
        self._was_changed &= self._stuck is not None
        if self._stuck is not None and before is None and now - self._told >= TELL_AGAIN_SECONDS:
            self._told = now
            self._tell(self._stuck)

"""The course of a copy: its figures of the last seconds, and the rates that follow from them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

SPACING = 0.2
"""Seconds between two samples."""

RATE_SECONDS = 5.0
"""The time that the rates are averages of: short enough to follow a new limit, long enough to be steady."""

LEAST_SECONDS = 0.5
"""Rates of a shorter time are not known."""

LEAST_GAIN = 0.05
"""If guests write all but this share of what passes, the time left is not known."""


@dataclass(frozen=True, slots=True)
class Sample:
    """A copy's figures at one moment, in bytes; all but ``left`` only grow."""

    at: float
    """``time.monotonic()``."""
    sent: int
    passed: int
    """What the copy has dealt with: sent, or left out because it is zeros."""
    written: tuple[int, ...]
    """What guests have written to each drive since the copy began, in chunks."""
    left: int
    """What is still to be sent or confirmed."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second, and the milliseconds until the switchover, None if not known or not finite."""

    send: int
    write: int
    remaining_ms: int | None


def rates(first: Sample, last: Sample, now: float) -> Rates | None:
    """Return the rates between two samples; None if there is too little time between them.

    ``now`` is the time; it is later than ``last`` if the copy stands still.
    """
    seconds = (last.at if now - last.at < LEAST_SECONDS else now) - first.at
    if seconds < LEAST_SECONDS:
        return None
    send = (last.sent - first.sent) / seconds
    write = (sum(last.written) - sum(first.written)) / seconds
    passed = (last.passed - first.passed) / seconds
    gain = passed - write
    remaining = round(last.left / gain * 1000) if passed > 0 and gain >= passed * LEAST_GAIN else None
    return Rates(round(send), round(write), remaining)


class Course:
    """Keeps the samples of at least the last ``seconds``. One thread notes them; any thread may read them."""

    def __init__(self, read: Callable[[], Sample], seconds: float) -> None:
        """``read`` returns the figures of this moment."""
        self._read = read
        self._seconds = max(seconds, RATE_SECONDS)
        self._samples: deque[Sample] = deque()
        self._due = 0.0

    def note(self) -> bool:
        """Note the figures, if the last sample is old enough; return whether it was."""
        now = time.monotonic()
        if now < self._due:
            return False
        self._due = now + SPACING
        self._samples.append(self._read())
        while len(self._samples) > 1 and now - self._samples[1].at >= self._seconds:
            self._samples.popleft()
        return True

    def since(self, begun: float) -> list[Sample]:
        """Return the samples from a time on, oldest first."""
        return [sample for sample in self._samples.copy() if sample.at >= begun]

    def rates(self) -> Rates | None:
        """Return the rates of the last seconds, None while they are not known."""
        now = time.monotonic()
        recent = self.since(now - RATE_SECONDS)
        last = next(reversed(self._samples.copy()), None)
        return None if last is None else rates(recent[0] if recent else last, last, now)

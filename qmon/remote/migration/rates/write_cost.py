"""How long a guest's writes take before and after its disk has become write-blocking. Pure."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from qmon.remote.migration.rates.pace import Fields, number

SPACING = 1.0
"""Seconds between two samples."""

BEFORE_SECONDS = 10.0
SETTLING_SECONDS = 2.0
"""The time after the switch in which writes do not yet take what they will take."""

LEAST_SECONDS = 3.0
LEAST_WRITES = 5
"""An average of less is not told."""


@dataclass(frozen=True, slots=True)
class Writes:
    """A disk's writes until a moment."""

    at: float
    count: int
    nanoseconds: int

    def mean_ms(self, later: Writes) -> float | None:
        """Return the milliseconds that a write has taken from here on; None if there were too few."""
        count = later.count - self.count
        return (later.nanoseconds - self.nanoseconds) / count / 1e6 if count >= LEAST_WRITES else None


class WriteCost:
    """The writes of one disk, whose top node is ``node``. It tells once what has become of them."""

    def __init__(self, drive: str, node: str) -> None:
        self._drive = drive
        self._node = node
        self._samples: deque[Writes] = deque()
        self._switched: Writes | None = None
        self._before_ms: float | None = None
        self._is_told = False

    def note(self, at: float, statistics: Sequence[Fields]) -> None:
        """Note the result of ``query-blockstats`` at a time in seconds."""
        for each in statistics:
            stats = each.get("stats")
            if each.get("node-name") == self._node and isinstance(stats, dict):
                count, spent = number(stats, "wr_operations", 0), number(stats, "wr_total_time_ns", 0)
                self._samples.append(Writes(at, count, spent))
        while self._samples and at - self._samples[0].at > BEFORE_SECONDS and self._switched is None:
            self._samples.popleft()

    def switch(self) -> None:
        """The disk becomes write-blocking now."""
        if self._samples:
            self._switched = self._samples[-1]
            self._before_ms = self._samples[0].mean_ms(self._switched)

    def line(self) -> str | None:
        """Return the line that tells the cost, once it is known; None then and before."""
        if self._switched is None or self._is_told:
            return None
        settled = self._switched.at + SETTLING_SECONDS
        first = next((each for each in self._samples if each.at >= settled), None)
        if first is None or self._samples[-1].at - first.at < LEAST_SECONDS:
            return None
        now_ms = first.mean_ms(self._samples[-1])
        if now_ms is None:
            return None
        self._is_told = True
        before = "" if self._before_ms is None else f", and took {_text(self._before_ms)} before"
        return f"Drive '{self._drive}': a write of the guest takes {_text(now_ms)} now{before}"


def _text(milliseconds: float) -> str:
    return f"{milliseconds:.{0 if milliseconds >= 10 else 1 if milliseconds >= 1 else 2}f} ms"

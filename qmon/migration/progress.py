"""How far a migration is: counters that data threads write and anybody reads, and the rate they make."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field


@dataclass(slots=True)
class Progress:
    """A migration's figures; bytes, and seconds of ``time.monotonic()``. Each is written by one thread."""

    started: float = field(default_factory=time.monotonic)
    agreed: float | None = None
    """When setup ended."""
    gates_closed: float | None = None
    ended: float | None = None
    downtime: float | None = None
    """How long the machine stood still, in seconds."""
    expected_downtime: float | None = None
    transferred: int = 0
    """Bytes of records sent, or applied at a destination."""
    remaining: int = 0
    total: int = 0
    """The virtual sizes of all drives that travel."""
    rounds: int = 0
    overdue: int = 0
    """Switchovers that took too long and were given up."""
    rate: float = 0.0
    """Bytes a second, as measured lately."""
    error: str | None = None

    @property
    def total_time(self) -> float:
        """Seconds from the start to the end, or to now."""
        return (self.ended or time.monotonic()) - self.started


class RateMeter:
    """Measures bytes a second over the last few moments; for one thread."""

    WINDOW = 2.0
    SPACING = 0.01

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, total: int) -> float:
        """Note that ``total`` bytes are done by now; return the rate over the window, 0 when unknown."""
        now = time.monotonic()
        if not self._samples or now - self._samples[-1][0] >= self.SPACING:
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[0][0] > self.WINDOW:
            self._samples.popleft()
        begun, before = self._samples[0]
        return (total - before) / (now - begun) if now - begun >= self.SPACING else 0.0


class Throttle:
    """Keeps a sender to a limit of bytes a second by saying how long to wait; for one thread.

    What was sent too early is owed in bytes, not in seconds, so that a limit that is raised counts at once.
    """

    BURST = 0.05
    """Seconds' worth that may be sent at once after a pause."""

    def __init__(self) -> None:
        self._owed = 0.0
        self._seen = time.monotonic()

    def note(self, size: int) -> None:
        """``size`` bytes have been sent."""
        self._owed += size

    def delay(self, limit: int) -> float:
        """Seconds to wait, if ``limit`` stays as it is, before more may be sent; 0 is no limit."""
        now = time.monotonic()
        passed, self._seen = now - self._seen, now
        if not limit:
            self._owed = 0.0
            return 0.0
        self._owed = max(self._owed - passed * limit, -self.BURST * limit)
        return max(0.0, self._owed / limit)

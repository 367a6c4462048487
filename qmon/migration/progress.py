"""A migration's progress: counters that data threads write and any thread reads, and the rate."""

from __future__ import annotations

import time
from collections import deque
from dataclasses import dataclass, field

from qmon.migration.timeline import Timeline


@dataclass(frozen=True, slots=True)
class DriveFigures:
    """How far one drive is, in bytes; None if it is not known on this side."""

    id: str
    transferred: int
    remaining: int | None
    total: int | None


def how_verified(*, shared: bool) -> str:
    """Return how the result of a completed migration was compared."""
    if shared:
        return "both sides read the same data, flushed"
    return "checksums of every record, flushed"


@dataclass(slots=True)
class Progress:
    """A migration's figures, in bytes and seconds of ``time.monotonic()``. One thread writes each."""

    started: float | None = field(default_factory=time.monotonic)
    """None after a restart: the earlier process knew it."""
    agreed: float | None = None
    """When setup ended."""
    gates_closed: float | None = None
    ended: float | None = None
    downtime: float | None = None
    """How long the machine was paused, in seconds."""
    expected_downtime: float | None = None
    transferred: int = 0
    """Bytes of records sent, or applied at a destination."""
    channel_bytes: int = 0
    """Bytes that were sent through channels (multifd)."""
    remaining: int = 0
    total: int = 0
    """The sum of the virtual sizes of all drives that are copied."""
    rounds: int = 0
    overdue: int = 0
    """How many switchovers took too long and were abandoned."""
    rate: float = 0.0
    """Bytes per second, measured over the last seconds."""
    error: str | None = None
    throttle: int = 0
    """Source: by how many per cent guests' writes are slowed down."""
    is_kept: bool = False
    """Source: the operator has decided that the disks stay on this side."""
    verified: str | None = None
    """How the result was compared; None before the end."""
    compared: tuple[int, int] | None = None
    """Bytes and chunks whose checksums were compared, as sent and as applied; None before that."""
    arrived: dict[str, int] = field(default_factory=dict)
    """Destination: by id of each drive that is copied, the bytes of its data that were applied."""
    timeline: Timeline = field(default_factory=Timeline)

    @classmethod
    def from_record(cls, written: float, *, is_over: bool) -> Progress:
        """Return the progress of a migration that was found in a record, written at ``time.time()``."""
        ended = time.monotonic() - (time.time() - written) if is_over else None
        return cls(started=None, ended=ended)

    @property
    def ended_at(self) -> float | None:
        """When it ended, in seconds since 1970; None if it has not."""
        return None if self.ended is None else time.time() - (time.monotonic() - self.ended)

    @property
    def total_time(self) -> float | None:
        """Seconds from the start to the end, or to now; None if the start is not known."""
        return None if self.started is None else (self.ended or time.monotonic()) - self.started

    @property
    def setup_time(self) -> float | None:
        """Seconds from the start to the agreement, None before."""
        return None if self.started is None or self.agreed is None else self.agreed - self.started


class RateMeter:
    """Measures bytes per second over the last WINDOW seconds; for one thread."""

    WINDOW = 2.0
    SPACING = 0.01

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def add(self, total: int) -> float:
        """Note that ``total`` bytes are done so far; return bytes per second, 0 if not known yet."""
        now = time.monotonic()
        if not self._samples or now - self._samples[-1][0] >= self.SPACING:
            self._samples.append((now, total))
        while len(self._samples) > 2 and now - self._samples[0][0] > self.WINDOW:
            self._samples.popleft()
        begun, before = self._samples[0]
        return (total - before) / (now - begun) if now - begun >= self.SPACING else 0.0


class Throttle:
    """Tells a sender how long to wait to keep to a limit of bytes per second; for one thread.

    It counts bytes sent too early, not seconds to wait, so a raised limit has an effect at once.
    """

    BURST = 0.05
    """After a pause, as much may be sent at once as the limit allows in this many seconds."""

    def __init__(self) -> None:
        self._owed = 0.0
        self._seen = time.monotonic()

    def note(self, size: int) -> None:
        """``size`` bytes have been sent."""
        self._owed += size

    def delay(self, limit: int) -> float:
        """Return the seconds to wait before more may be sent; ``limit`` is bytes per second, 0 for none."""
        now = time.monotonic()
        passed, self._seen = now - self._seen, now
        if not limit:
            self._owed = 0.0
            return 0.0
        self._owed = max(self._owed - passed * limit, -self.BURST * limit)
        return max(0.0, self._owed / limit)

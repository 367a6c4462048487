"""Throttling: a filter that delays requests to keep to limits of bytes and requests per second.

The limits belong to a group, whose disks share them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from qmon.block.gate import Gate
from qmon.block.node import Buffer, Filter, Node

BURST_PART = 10
"""A tenth of a second's worth may pass at once, as in QEMU."""

LONGEST_NAP_SECONDS = 0.5
"""How often a waiting request checks the limits again, which may have changed."""


RATES = ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of bytes (``bps``) and requests (``iops``) per second: total, reads, writes; 0 is no limit.

    ``_max`` is the rate during a burst, and ``_max_length`` is for how many seconds it may last. With the
    length 1 that much may pass at once. A request larger than ``iops_size`` bytes counts as several. The
    names are those of block_set_io_throttle (qapi/block-core.json).
    """

    bps: int = 0
    bps_rd: int = 0
    bps_wr: int = 0
    iops: int = 0
    iops_rd: int = 0
    iops_wr: int = 0
    bps_max: int = 0
    bps_rd_max: int = 0
    bps_wr_max: int = 0
    iops_max: int = 0
    iops_rd_max: int = 0
    iops_wr_max: int = 0
    bps_max_length: int = 1
    bps_rd_max_length: int = 1
    bps_wr_max_length: int = 1
    iops_max_length: int = 1
    iops_rd_max_length: int = 1
    iops_wr_max_length: int = 1
    iops_size: int = 0

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any(getattr(self, name) for name in RATES)


NO_LIMITS = Limits()


class _Level:
    """What has passed less what leaks away at ``rate`` per second. Above ``limit``, requests wait."""

    def __init__(self, rate: float, limit: float) -> None:
        self.rate = rate
        self._limit = limit
        self._level = 0.0

    def leak(self, seconds: float) -> None:
        self._level = max(0.0, self._level - seconds * self.rate)

    def wait_seconds(self) -> float:
        return (self._level - self._limit) / self.rate

    def fill(self, amount: float) -> None:
        self._level += amount


class _Bucket:
    """A leaky bucket, as QEMU's (util/throttle.c): it leaks at the rate.

    It holds a tenth of a second's worth, or what passes in the longest burst. If bursts are longer than a
    second, a second level keeps them to their own rate.
    """

    def __init__(self, rate: int, burst: int, seconds: int, now: float) -> None:
        self._levels = [_Level(rate, burst * seconds if burst else rate / BURST_PART)]
        if burst and seconds > 1:
            self._levels.append(_Level(burst, burst / BURST_PART))
        self._leaked_at = now

    def wait_seconds(self, now: float) -> float:
        for level in self._levels:
            level.leak(now - self._leaked_at)
        self._leaked_at = now
        return max(level.wait_seconds() for level in self._levels)

    def fill(self, amount: float) -> None:
        for level in self._levels:
            level.fill(amount)


class Throttle:
    """The limits of a group of disks and their current use. Thread-safe."""

    def __init__(self, group: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.group = group
        """The group's name."""
        self._clock = clock
        self._lock = threading.Lock()
        self._limits = NO_LIMITS
        self._buckets: dict[str, _Bucket] = {}

    @property
    def limits(self) -> Limits:
        return self._limits

    def set(self, limits: Limits) -> None:
        """Set new limits."""
        with self._lock:
            self._limits = limits
            now = self._clock()
            self._buckets = {
                name: _Bucket(
                    rate, getattr(limits, f"{name}_max"), getattr(limits, f"{name}_max_length"), now
                )
                for name in RATES
                if (rate := getattr(limits, name))
            }

    def enter(self, direction: str, length: int) -> float:
        """Let a request pass and return 0, or return after how many seconds to try again.

        ``direction`` is ``rd`` or ``wr``, ``length`` is in bytes.
        """
        with self._lock:
            met = {
                name: self._buckets[name]
                for name in ("bps", f"bps_{direction}", "iops", f"iops_{direction}")
                if name in self._buckets
            }
            now = self._clock()
            seconds = max((bucket.wait_seconds(now) for bucket in met.values()), default=0.0)
            if seconds > 0:
                return seconds
            size = self._limits.iops_size
            requests = max(1.0, length / size) if size else 1.0
            for name, bucket in met.items():
                bucket.fill(length if name.startswith("bps") else requests)
        return 0


class Throttled(Protocol):
    """A disk with limits."""

    @property
    def throttle(self) -> Throttle:
        """The limits of its group. The disk may change the group while requests wait."""


def wait(disk: Throttled, direction: str, length: int, hurried: Callable[[float], bool]) -> None:
    """Wait until a request of ``length`` bytes may pass; ``direction`` is ``rd`` or ``wr``.

    ``hurried(seconds)`` sleeps that long and returns False, or returns True at once to end the wait.
    """
    while (seconds := disk.throttle.enter(direction, length)) > 0:
        if hurried(min(seconds, LONGEST_NAP_SECONDS)):
            return


class ThrottleFilter(Filter):
    """Delays reads and writes inside the gate. When the gate is to be closed, they pass at once."""

    def __init__(self, child: Node, disk: Throttled, gate: Gate) -> None:
        super().__init__(child)
        self._disk = disk
        self._gate = gate

    def read_into(self, offset: int, buffer: memoryview) -> None:
        wait(self._disk, "rd", len(buffer), self._gate.wait_closing)
        self.child.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        wait(self._disk, "wr", len(data), self._gate.wait_closing)
        self.child.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        wait(self._disk, "wr", length, self._gate.wait_closing)
        self.child.zero(offset, length, unmap=unmap)

"""Throttling: a filter that delays requests to keep to limits of bytes and requests per second."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields

from qmon.block.gate import Gate
from qmon.block.node import Buffer, Filter, Node

BURST_PART = 10
"""Without an explicit burst, a tenth of a second's worth may pass at once, as in QEMU."""

LONGEST_NAP_SECONDS = 0.5
"""How often a waiting request checks the limits again, which may have changed."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of bytes (``bps``) and requests (``iops``) per second: total, reads, writes; 0 is no limit.

    ``_max`` is the burst that may pass at once. A request larger than ``iops_size`` bytes counts as several.
    The names are those of block_set_io_throttle (qapi/block-core.json).
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
    iops_size: int = 0

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return any(getattr(self, each.name) for each in fields(self))


NO_LIMITS = Limits()


class _Bucket:
    """A leaky bucket: requests fill it, it leaks at the rate; above its burst, requests wait."""

    def __init__(self, rate: int, burst: int) -> None:
        self.rate = rate
        self._burst = burst or rate / BURST_PART
        self._level = 0.0
        self._leaked_at = time.monotonic()

    def wait_seconds(self) -> float:
        now = time.monotonic()
        self._level = max(0.0, self._level - (now - self._leaked_at) * self.rate)
        self._leaked_at = now
        return (self._level - self._burst) / self.rate

    def fill(self, amount: float) -> None:
        self._level += amount


class Throttle:
    """The limits of one disk and their current use. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._limits = NO_LIMITS
        self._buckets: dict[str, _Bucket] = {}
        self.group = ""

    @property
    def limits(self) -> Limits:
        return self._limits

    def set(self, limits: Limits, group: str) -> None:
        """Set new limits. ``group`` is only a name to report; limits are not shared between disks."""
        with self._lock:
            self._limits = limits
            self.group = group
            self._buckets = {
                name: _Bucket(rate, getattr(limits, f"{name}_max"))
                for name in ("bps", "bps_rd", "bps_wr", "iops", "iops_rd", "iops_wr")
                if (rate := getattr(limits, name))
            }

    def wait(self, direction: str, length: int, hurried: Callable[[float], bool]) -> None:
        """Wait until a request of ``length`` bytes may pass; ``direction`` is ``rd`` or ``wr``.

        ``hurried(seconds)`` sleeps that long and returns False, or returns True at once to end the wait.
        """
        while (seconds := self._try(direction, length)) > 0:
            if hurried(min(seconds, LONGEST_NAP_SECONDS)):
                return

    def _try(self, direction: str, length: int) -> float:
        """Let the request pass and return 0, or return after how many seconds to try again."""
        with self._lock:
            met = {
                name: self._buckets[name]
                for name in ("bps", f"bps_{direction}", "iops", f"iops_{direction}")
                if name in self._buckets
            }
            seconds = max((bucket.wait_seconds() for bucket in met.values()), default=0.0)
            if seconds > 0:
                return seconds
            size = self._limits.iops_size
            requests = max(1.0, length / size) if size else 1.0
            for name, bucket in met.items():
                bucket.fill(length if name.startswith("bps") else requests)
        return 0


class ThrottleFilter(Filter):
    """Delays reads and writes inside the gate. When the gate is to be closed, they pass at once."""

    def __init__(self, child: Node, throttle: Throttle, gate: Gate) -> None:
        super().__init__(child)
        self._throttle = throttle
        self._gate = gate

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._throttle.wait("rd", len(buffer), self._gate.wait_closing)
        self.child.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self._throttle.wait("wr", len(data), self._gate.wait_closing)
        self.child.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._throttle.wait("wr", length, self._gate.wait_closing)
        self.child.zero(offset, length, unmap=unmap)

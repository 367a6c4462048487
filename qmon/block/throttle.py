"""Throttling: a filter that delays requests to keep to limits of bytes and requests per second.

The limits belong to a group, whose disks share them: those that wait take turns, so that a disk with many
requests leaves the others their part.
"""

from __future__ import annotations

import threading
import time
from collections import deque
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
        return bool(self.bps or self.bps_rd or self.bps_wr or self.iops or self.iops_rd or self.iops_wr)


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


class _Waiting:
    """A request that waits; ``woken`` is set when it may pass, or is the next to pass."""

    __slots__ = ("length", "may_pass", "woken")

    def __init__(self, length: int) -> None:
        self.length = length
        self.may_pass = False
        self.woken = threading.Event()


class _Queue:
    """The waiting requests of one direction. The disks take turns; a disk's own requests stay in order."""

    def __init__(self) -> None:
        self._of: dict[Throttled, deque[_Waiting]] = {}
        """By disk: the first one has the next turn."""

    @property
    def first(self) -> _Waiting | None:
        """The next request to pass."""
        return next(iter(self._of.values()))[0] if self._of else None

    def add(self, disk: Throttled, request: _Waiting) -> None:
        self._of.setdefault(disk, deque()).append(request)

    def pop(self) -> _Waiting:
        """Remove and return the next request; then it is another disk's turn."""
        disk = next(iter(self._of))
        requests = self._of.pop(disk)
        request = requests.popleft()
        if requests:
            self._of[disk] = requests
        return request

    def remove(self, disk: Throttled, request: _Waiting) -> None:
        """Remove a request that waits no longer, if it is still there."""
        requests = self._of.get(disk, deque())
        if request in requests:
            requests.remove(request)
            if not requests:
                del self._of[disk]


class Throttle:
    """The limits of a group of disks and their current use. Thread-safe."""

    def __init__(self, group: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.group = group
        """The group's name."""
        self._clock = clock
        self._lock = threading.Lock()
        self._limits = NO_LIMITS
        self._buckets: dict[str, _Bucket] = {}
        self._queues = {"rd": _Queue(), "wr": _Queue()}
        self._last = "wr"
        """The direction of the waiting request that has passed last."""

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
            self._wake_first()

    def enter(self, disk: Throttled, direction: str, length: int) -> _Waiting | None:
        """Let a request pass, or return it, as one that waits: call ``try_again`` until it may pass.

        ``direction`` is ``rd`` or ``wr``, ``length`` is in bytes.
        """
        with self._lock:
            queue = self._queues[direction]
            if queue.first is None and self._wait_seconds(direction) <= 0:
                self._fill(direction, length)
                return None
            request = _Waiting(length)
            queue.add(disk, request)
            return request

    def try_again(self, request: _Waiting, direction: str) -> float:
        """Let waiting requests pass; return how long this one should sleep, 0 if it may pass."""
        with self._lock:
            while self._let_one_pass():
                pass
            if request.may_pass:
                return 0.0
            is_next = request is self._queues[direction].first
            return self._wait_seconds(direction) if is_next else LONGEST_NAP_SECONDS

    def give_up(self, disk: Throttled, request: _Waiting, direction: str) -> None:
        """The request waits no longer, whether it may pass or not."""
        with self._lock:
            self._queues[direction].remove(disk, request)
            self._wake_first()

    def _let_one_pass(self) -> bool:
        """Let the next request pass if it may; reads and writes take turns if both wait."""
        for direction in (_OTHER[self._last], self._last):
            queue = self._queues[direction]
            if queue.first is not None and self._wait_seconds(direction) <= 0:
                request = queue.pop()
                self._fill(direction, request.length)
                request.may_pass = True
                request.woken.set()
                self._last = direction
                self._wake_first()  # they have to look when they may pass
                return True
        return False

    def _wake_first(self) -> None:
        for queue in self._queues.values():
            if queue.first is not None:
                queue.first.woken.set()

    def _met(self, direction: str) -> dict[str, _Bucket]:
        """The buckets that a request goes into, by their names."""
        names = ("bps", f"bps_{direction}", "iops", f"iops_{direction}")
        return {name: self._buckets[name] for name in names if name in self._buckets}

    def _wait_seconds(self, direction: str) -> float:
        now = self._clock()
        return max((bucket.wait_seconds(now) for bucket in self._met(direction).values()), default=0.0)

    def _fill(self, direction: str, length: int) -> None:
        size = self._limits.iops_size
        requests = max(1.0, length / size) if size else 1.0
        for name, bucket in self._met(direction).items():
            bucket.fill(length if name.startswith("bps") else requests)


_OTHER = {"rd": "wr", "wr": "rd"}


class Throttled(Protocol):
    """A disk with limits."""

    @property
    def throttle(self) -> Throttle:
        """The limits of its group. The disk may change the group while requests wait."""


def wait(
    disk: Throttled, direction: str, length: int, hurried: Callable[[float, threading.Event], bool]
) -> None:
    """Wait until a request of ``length`` bytes may pass; ``direction`` is ``rd`` or ``wr``.

    ``hurried(seconds, woken)`` sleeps that long, or until the event is set. After True, the wait ends.
    """
    throttle = disk.throttle
    request = throttle.enter(disk, direction, length)
    while request is not None:
        request.woken.clear()
        seconds = throttle.try_again(request, direction)
        if seconds <= 0:
            return
        if hurried(min(seconds, LONGEST_NAP_SECONDS), request.woken):
            throttle.give_up(disk, request, direction)
            return
        if disk.throttle is not throttle:
            throttle.give_up(disk, request, direction)
            throttle = disk.throttle
            request = None if request.may_pass else throttle.enter(disk, direction, length)


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

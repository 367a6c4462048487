"""Holds back a share of what guests write to a disk, so that something else can keep up with them.

Reads, and writes of zeros, are not held back, and reads pass the writes of the same client. Writes pass in
the order in which they come, whoever sends them, so that clients of one disk have equal shares.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence

from qmon.block.gate import Gate
from qmon.block.late_writes import LateWrites, carry_out
from qmon.block.node import Buffer, Node, WriteFilter
from qmon.block.transfers import Start, Transfer

LEAST_PAUSE_SECONDS = 0.01
"""Requests that would wait less pass at once, and a later one waits for them: sleeping often costs much."""

LONGEST_PAUSE_SECONDS = 1.0
"""No request waits longer, so that a guest's disk never seems to hang."""

NAP_SECONDS = 0.05
"""How often a waiting request looks whether it is still held back."""


class Allowance:
    """What guests may write to a disk: bytes per second. Thread-safe."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._rate = 0.0
        self._paid_at = 0.0
        """When all that was written is within the rate."""

    def allow(self, rate: float) -> None:
        """Allow so many bytes per second from now on; 0 is no limit."""
        with self._lock:
            self._rate = rate
            self._paid_at = min(self._paid_at, self._clock() + LONGEST_PAUSE_SECONDS)

    @property
    def is_limited(self) -> bool:
        return self._rate > 0

    def take(self, length: int) -> float:
        """Take ``length`` bytes for a write; return after how many seconds it may be done."""
        with self._lock:
            if not self._rate:
                return 0.0
            now = self._clock()
            waits = max(0.0, self._paid_at - now)
            latest = now + LONGEST_PAUSE_SECONDS
            self._paid_at = min(max(self._paid_at, now) + length / self._rate, latest)
        return waits if waits >= LEAST_PAUSE_SECONDS else 0.0


class HoldBackFilter(WriteFilter):
    """Delays writes inside the gate. When the gate is to be closed, they pass at once.

    It has no ``write_now``, so the threads that must not wait leave writes to others. Those have ``start``.
    """

    def __init__(
        self, child: Node, allowance: Allowance, gate: Gate, cost: Callable[[int, int], int]
    ) -> None:
        """``cost(offset, length)`` says for how many bytes a write counts."""
        super().__init__(child)
        self._allowance = allowance
        self._gate = gate
        self._cost = cost
        self._late = LateWrites(lambda: self.child, self._pause, self._rest)

    @property
    def start(self) -> Start | None:
        return self._start if self._allowance.is_limited else None

    def _start(self, transfers: Sequence[Transfer]) -> bool:
        carry_out(self.child, [each for each in transfers if not each.is_write or not self._late.put(each)])
        return True

    def _pause(self, write: Transfer) -> float:
        return self._allowance.take(self._cost(write.offset, len(write.buffer)))

    def _rest(self, seconds: float) -> bool:
        """Wait; return whether no write is to be held back any more."""
        return self._gate.wait_closing(seconds) or not self._allowance.is_limited

    def write(self, offset: int, data: Buffer) -> None:
        self._wait(self._allowance.take(self._cost(offset, len(data))))
        self.child.write(offset, data)

    def _wait(self, seconds: float) -> None:
        until = time.monotonic() + seconds
        while self._allowance.is_limited and (left := until - time.monotonic()) > 0:
            if self._gate.wait_closing(min(left, NAP_SECONDS)):
                return

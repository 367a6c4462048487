"""Tells whether a message was long on its way, by the sender's clock and without knowing what it shows."""

from __future__ import annotations

LATE_MS = 15_000
"""A message that took so much longer than the fastest of late is late."""

WINDOW_MS = 60_000
"""The fastest is that of at least so long, and not of much longer: two hosts' clocks drift apart."""

_BITS = 1 << 32


class Freshness:
    """For one thread; times are in milliseconds."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._since = 0
        self._before: int | None = None
        self._least = 0

    def is_late(self, stamp: int, now: int) -> bool:
        """Note a message that was sent at ``stamp``, modulo 2**32, and received at ``now``."""
        if self._first is None:
            self._first, self._since = now - stamp, now
        took = (now - stamp - self._first) % _BITS
        if took >= _BITS // 2:
            took -= _BITS
        fastest = self._least if self._before is None else min(self._least, self._before)
        if now - self._since > WINDOW_MS:
            self._before, self._least, self._since = self._least, took, now
        self._least = min(self._least, took)
        return took - fastest > LATE_MS

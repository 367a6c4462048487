"""A memory limit that many clients share, so that their buffers together stay bounded."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """A number of bytes to take from, first come, first served; ``take`` never waits. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._left = size

    def take(self, size: int) -> bool:
        """Take ``size`` bytes and return True, or return False if fewer are left. ``give`` returns them."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Return bytes that were taken."""
        with self._lock:
            self._left += size

    @contextmanager
    def borrow(self, size: int) -> Iterator[bool]:
        """Take ``size`` bytes for the context; yield whether there were enough."""
        taken = self.take(size)
        try:
            yield taken
        finally:
            if taken:
                self.give(size)

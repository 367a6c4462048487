"""A bound for what many hold together, so that what each may hold does not add up without end."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Budget:
    """So many bytes, for whoever asks first; who gets none does not wait but makes do. Thread-safe."""

    def __init__(self, size: int) -> None:
        self._lock = threading.Lock()
        self._left = size

    def take(self, size: int) -> bool:
        """Take so much of it, if there is so much; then ``give`` must follow."""
        with self._lock:
            if size > self._left:
                return False
            self._left -= size
            return True

    def give(self, size: int) -> None:
        """Give back what was taken."""
        with self._lock:
            self._left += size

    @contextmanager
    def borrow(self, size: int) -> Iterator[bool]:
        """Take so much of it for a while; whether there was so much."""
        taken = self.take(size)
        try:
            yield taken
        finally:
            if taken:
                self.give(size)

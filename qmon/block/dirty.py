"""The dirty map: the chunks of a disk that must still be sent, and the filter that marks guests' writes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from qmon.block.flags import Flags
from qmon.block.node import Node, NotingFilter

MIN_GRANULARITY = 4096
MAX_CHUNKS = 1 << 24
"""The most chunks of a map. Each takes at most one byte, so the largest map takes 16 MiB."""

_STEP = 1 << 18
"""Flags that are changed in one go under the lock; it takes at most 0.1 ms."""


def granularity_for(size: int) -> int:
    """Return the chunk size of a disk: the least power of two >= 4 KiB that gives at most MAX_CHUNKS."""
    granularity = MIN_GRANULARITY
    while -(-size // granularity) > MAX_CHUNKS:
        granularity *= 2
    return granularity


class DirtyMap:
    """One flag per chunk of ``granularity`` bytes. Thread-safe; no call waits for I/O."""

    def __init__(self, size: int, granularity: int | None = None, *, dirty: bool = False) -> None:
        """With ``dirty`` all chunks are marked."""
        self.size = size
        self.granularity = granularity or granularity_for(size)
        chunks = -(-size // self.granularity)
        self._flags = Flags(chunks, int(dirty))
        self._dirty = chunks if dirty else 0
        self._written = self._taken = 0
        self._lock = threading.Lock()

    def mark(self, offset: int, length: int, *, is_data: bool = False) -> None:
        """Mark every chunk that the range touches; ``is_data``: count it in ``written_bytes``."""
        if length <= 0:
            return
        first = offset // self.granularity
        last = -(-(offset + length) // self.granularity)
        if last - first == 1:
            with self._lock:
                self._dirty += self._flags.raise_one(first)
                self._written += is_data
            return
        for start in range(first, last, _STEP):
            stop = min(start + _STEP, last)
            with self._lock:
                self._dirty += self._flags.fill(start, stop, 1)
                self._written += (stop - start) * is_data

    def is_marked(self, offset: int, length: int) -> bool:
        """Whether all chunks that a range touches are marked."""
        first, end = offset // self.granularity, -(-(offset + length) // self.granularity)
        with self._lock:
            return self._flags.find(0, first, end) < 0

    def count_written(self, offset: int, length: int) -> None:
        """Count data that was written in ``written_bytes``, without marking it."""
        with self._lock:
            self._written += self.span(offset, length) // self.granularity

    def span(self, offset: int, length: int) -> int:
        """Return the bytes of the chunks that a range touches."""
        first, end = offset // self.granularity, -(-(offset + length) // self.granularity)
        return (end - first) * self.granularity

    def take(self, start: int, limit: int) -> tuple[int, int] | None:
        """Find the first dirty run at or after byte ``start`` and clear the marks of at most ``limit`` bytes.

        Returns the (offset, length) of these in bytes, cut at the disk's end, or None if nothing is dirty
        from ``start`` on. Read the disk only after this call: a write during the read marks it again.
        """
        with self._lock:
            first = self._flags.find(1, start // self.granularity)
            if first < 0:
                return None
            most = min(first + max(1, limit // self.granularity), self._flags.count)
            last = self._flags.find(0, first, most)
            if last < 0:
                last = most
            cleared = self._flags.fill(first, last, 0)
            self._dirty -= cleared
            self._taken += cleared
        offset = first * self.granularity
        return offset, min(last * self.granularity, self.size) - offset

    def clean(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield (offset, length) in bytes of each part of a range that is not marked when it is reached."""
        position = offset // self.granularity
        last = -(-(offset + length) // self.granularity)
        while True:
            with self._lock:  # find the end of the run before others can mark it
                first = self._flags.find(0, position, last)
                found = self._flags.find(1, first, last) if first >= 0 else -1
            if first < 0:
                return
            position = found if found >= 0 else last
            start = max(first * self.granularity, offset)
            yield start, min(position * self.granularity, offset + length) - start

    @property
    def dirty_bytes(self) -> int:
        """The total size of the marked chunks in bytes."""
        return min(self._dirty * self.granularity, self.size)

    @property
    def marked_bytes(self) -> int:
        """The chunks that were marked so far, each as often as it was and had not been, in bytes."""
        return (self._dirty + self._taken) * self.granularity

    @property
    def written_bytes(self) -> int:
        """The chunks of all data that was written so far, each as often as it was written, in bytes."""
        return self._written * self.granularity

    @property
    def taken_bytes(self) -> int:
        """The chunks whose marks ``take`` has cleared so far, each as often as it was, in bytes."""
        return self._taken * self.granularity


class DirtyFilter(NotingFilter):
    """Marks in ``dirty`` every range that is changed: after the change, also if it failed."""

    def __init__(self, child: Node, dirty: DirtyMap) -> None:
        super().__init__(child)
        self.dirty = dirty

    def note(self, offset: int, length: int, *, is_data: bool) -> None:
        self.dirty.mark(offset, length, is_data=is_data)

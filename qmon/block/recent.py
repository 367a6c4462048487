"""Which ranges of a disk were written last: a short memory, for who compares disks."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from qmon.block.dirty import DirtyMap
from qmon.block.node import Buffer, Filter, Node

KEPT = 2048
"""Ranges that are remembered at least, once so many were written; at most twice as many: about 0.5 MB."""

GRAIN = 4096

PIECE = 64 << 10
"""The longest range that is given out."""


class RecentWrites:
    """The ranges that were written last, and all that is written while somebody watches.

    ``note`` is called by several threads at once, for each write, so it takes no lock: it relies on single
    operations of a dict being whole. What two of them do at the same moment costs at worst a few of the
    oldest ranges.
    """

    def __init__(self) -> None:
        self._young: dict[tuple[int, int], None] = {}
        self._old: dict[tuple[int, int], None] = {}
        self._watched: DirtyMap | None = None

    def note(self, offset: int, length: int) -> None:
        """A range may have changed; its bytes have landed."""
        young = self._young
        young[offset, length] = None
        if len(young) > KEPT:
            self._old, self._young = young, {}
        if (watched := self._watched) is not None:
            watched.mark(offset, length)

    def watch(self, size: int) -> DirtyMap:
        """Mark from now on what is written; of requests under way, those that land later are marked, too."""
        self._watched = DirtyMap(size)
        return self._watched

    def unwatch(self) -> None:
        """Mark no more."""
        self._watched = None

    def newest(self, size: int, most: int, most_bytes: int) -> list[tuple[int, int]]:
        """What was written last within ``size``, newest first, as (offset, length) in bytes.

        At most ``most`` ranges, and ``most_bytes`` in all. Each has at most PIECE bytes: of a longer write
        these are its beginning and its end.
        """
        found: dict[tuple[int, int], None] = {}
        total = 0
        for offset, length in itertools.chain(_backwards(self._young), _backwards(self._old)):
            for piece in _ends(offset, min(offset + length, size), size):
                if piece not in found:
                    if len(found) == most or total + piece[1] > most_bytes:
                        return list(found)
                    found[piece] = None
                    total += piece[1]
        return list(found)


def _backwards(ranges: dict[tuple[int, int], None]) -> Iterator[tuple[int, int]]:
    """The last first; others may add to them meanwhile."""
    return reversed(ranges.copy())


def _ends(offset: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """A range's first and last bytes, out to multiples of GRAIN; once where that is all of it."""
    start, stop = offset // GRAIN * GRAIN, min(-(-end // GRAIN) * GRAIN, size)
    if start < stop:
        yield start, min(PIECE, stop - start)
        if stop - start > PIECE:
            last = max(start + PIECE, -(-(stop - PIECE) // GRAIN) * GRAIN)
            yield last, stop - last


class RecentFilter(Filter):
    """Notes what is changed through it: after the change has landed, also when it failed."""

    def __init__(self, child: Node, recent: RecentWrites) -> None:
        super().__init__(child)
        self._recent = recent

    def write(self, offset: int, data: Buffer) -> None:
        try:
            self.child.write(offset, data)
        finally:
            self._recent.note(offset, len(data))

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        try:
            self.child.zero(offset, length, unmap=unmap)
        finally:
            self._recent.note(offset, length)

    def discard(self, offset: int, length: int) -> None:
        try:
            self.child.discard(offset, length)
        finally:
            self._recent.note(offset, length)

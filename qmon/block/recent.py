"""Remembers the ranges of a disk that were written last. Comparisons of two disks start with these."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from qmon.block.dirty import DirtyMap
from qmon.block.node import Node, NotingFilter

KEPT = 2048
"""The least number of ranges to remember. At most twice as many are kept, which take about 0.5 MB."""

GRAIN = 4096

PIECE = 64 << 10
"""The longest range that ``newest`` returns."""


class RecentWrites:
    """The ranges that were written last; between ``watch`` and ``unwatch`` also a map of all writes.

    Several threads call ``note`` for each write, so it takes no lock: it relies on atomic operations of a
    dict. Two calls at the same moment lose at worst a few of the oldest ranges.
    """

    def __init__(self) -> None:
        self._young: dict[tuple[int, int], None] = {}
        self._old: dict[tuple[int, int], None] = {}
        self._watched: DirtyMap | None = None

    def note(self, offset: int, length: int) -> None:
        """Note that a range was written, or may have been, after the write has ended."""
        young = self._young
        young[offset, length] = None
        if len(young) > KEPT:
            self._old, self._young = young, {}
        if (watched := self._watched) is not None:
            watched.mark(offset, length)

    def watch(self, size: int) -> DirtyMap:
        """Start to mark all writes in the returned map, including requests that are still under way."""
        self._watched = DirtyMap(size)
        return self._watched

    def unwatch(self) -> None:
        """Stop marking."""
        self._watched = None

    def newest(self, size: int, most: int, most_bytes: int) -> list[tuple[int, int]]:
        """Return the last written ranges within ``size``, newest first, as (offset, length) in bytes.

        These are at most ``most`` ranges with ``most_bytes`` in all, each of at most PIECE bytes. A longer
        write is represented by its beginning and its end.
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
    """Yield the ranges, newest first; other threads may add ranges meanwhile."""
    return reversed(ranges.copy())


def _ends(offset: int, end: int, size: int) -> Iterator[tuple[int, int]]:
    """Yield the first and the last piece of a range, aligned to GRAIN; a short range is one piece."""
    start, stop = offset // GRAIN * GRAIN, min(-(-end // GRAIN) * GRAIN, size)
    if start < stop:
        yield start, min(PIECE, stop - start)
        if stop - start > PIECE:
            last = max(start + PIECE, -(-(stop - PIECE) // GRAIN) * GRAIN)
            yield last, stop - last


class RecentFilter(NotingFilter):
    """Notes every range that is changed: after the change, also if it failed."""

    def __init__(self, child: Node, recent: RecentWrites) -> None:
        super().__init__(child)
        self._recent = recent

    def note(self, offset: int, length: int, *, is_data: bool) -> None:
        self._recent.note(offset, length)

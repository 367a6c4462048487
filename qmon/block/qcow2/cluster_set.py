"""A compact set of cluster numbers: millions of them take eight bytes each."""

from __future__ import annotations

import heapq
import itertools
import operator
from array import array
from bisect import bisect_left
from collections.abc import Iterable

from qmon.block.qcow2.entries import Entries

_SORTED_AT_ONCE = 1 << 18
"""Numbers that are sorted at once, as a list. A list takes five times the memory of an array."""

_FEWEST_MERGED = 4096


def sorted_array(numbers: Entries, at_once: int = _SORTED_AT_ONCE) -> Entries:
    """Return the numbers sorted; the argument may be modified."""
    if all(map(operator.le, numbers, itertools.islice(numbers, 1, None))):
        return numbers
    starts = range(0, len(numbers), at_once)
    rows = [array("Q", sorted(numbers[start : start + at_once])) for start in starts]
    return rows[0] if len(rows) == 1 else array("Q", heapq.merge(*rows))


class ClusterSet:
    """A set of cluster numbers: most in a sorted array, recent changes in sets beside it."""

    def __init__(self, fewest_merged: int = _FEWEST_MERGED) -> None:
        """Up to ``fewest_merged`` changes are kept beside the array, even if it is small."""
        self._fewest_merged = fewest_merged
        self._sorted: Entries = array("Q")
        self._added: set[int] = set()
        self._taken: set[int] = set()

    def __contains__(self, cluster: int) -> bool:
        if cluster in self._added:
            return True
        place = bisect_left(self._sorted, cluster)
        return place < len(self._sorted) and self._sorted[place] == cluster and cluster not in self._taken

    def add(self, cluster: int) -> None:
        self._taken.discard(cluster)
        if cluster not in self:
            self._added.add(cluster)
            if len(self._added) > max(self._fewest_merged, len(self._sorted) // 4):
                self._merge()

    def update(self, clusters: Iterable[int]) -> None:
        for cluster in clusters:
            self.add(cluster)

    def add_sorted(self, clusters: Entries) -> None:
        """Add many sorted numbers; duplicates are allowed."""
        self._added.difference_update(clusters)
        self._taken.difference_update(clusters)
        self._merge(clusters)

    def add_set(self, other: ClusterSet) -> None:
        """Add all numbers of another set, which is not changed."""
        other._merge()
        self.add_sorted(other._sorted)

    def discard(self, cluster: int) -> None:
        self._added.discard(cluster)
        if cluster in self:
            self._taken.add(cluster)
            if len(self._taken) > max(self._fewest_merged, len(self._sorted) // 4):
                self._merge()

    def discard_all(self, clusters: Iterable[int]) -> None:
        for cluster in clusters:
            self.discard(cluster)

    def meets(self, first: int, stop: int) -> bool:
        """Whether it contains a cluster from ``first`` to ``stop - 1``."""
        if self._added and not self._added.isdisjoint(range(first, stop)):
            return True
        place = bisect_left(self._sorted, first)
        while place < len(self._sorted) and self._sorted[place] < stop:
            if self._sorted[place] not in self._taken:
                return True
            place += 1
        return False

    def _merge(self, more: Entries | None = None) -> None:
        kept: Entries = self._sorted
        if self._taken:
            kept = array("Q", (cluster for cluster in kept if cluster not in self._taken))
        rows = [row for row in (kept, array("Q", sorted(self._added)), more) if row]
        self._sorted = rows[0] if len(rows) == 1 else array("Q", heapq.merge(*rows))
        self._added.clear()
        self._taken.clear()

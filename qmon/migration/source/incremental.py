"""The incremental copy: sends the clusters that the overlay itself holds, not those of its backing image."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qmon.block.dirty import DirtyMap
from qmon.block.node import Extent, Kind
from qmon.migration.drive import MigratingDrive
from qmon.migration.source.copy import Chunks, DriveCopy, Outlet

CLUSTER_MAX = 2 << 20
"""The largest unit in which any format allocates (QEMU, docs/interop/qcow2, "cluster_bits")."""


class IncrementalCopy(DriveCopy):
    """Copies an overlay: only its allocated clusters, including zeros that hide the backing image.

    Two rules keep the destination's overlay equal to the source's. The extents of a range are read again
    when it is sent, because a dirty chunk may contain unallocated clusters. And when the first chunk of a
    newly allocated cluster is sent, the rest of that cluster is sent, too.
    """

    hears_of_zeros = False

    def __init__(self, index: int, drive: MigratingDrive) -> None:
        super().__init__(index, drive)
        self.total = 0
        self._allocated = Chunks(drive.size, self.dirty.granularity)
        """Chunks that are known to be allocated; they have been marked or sent."""

    @staticmethod
    def _new_map(size: int) -> DirtyMap:
        return DirtyMap(size)

    def survey(self, pulse: Callable[[], None]) -> None:
        """Mark what is allocated. Guests may write meanwhile: the filter marks their writes."""
        for extent in self._extents(0, self.drive.size):
            if extent.kind is not Kind.BACKING:
                self._allocated.touch(extent.offset, extent.length)
                self.dirty.mark(extent.offset, extent.length)
            pulse()
        self.total = self.dirty.dirty_bytes

    def note_compared(self, offset: int, length: int) -> None:
        self._allocated.touch(offset, length)

    def _mark_unsent(self, offset: int, length: int) -> None:
        self._taken = 0
        self.dirty.mark(offset, length)

    def may_send_apart(self, offset: int, length: int) -> bool:
        """The rest of a new cluster goes with it; and zeros that were found are sent last."""
        start, end = self.under_way
        is_new = next(self._allocated.unknown(offset, length), None) is not None
        return not is_new and (offset + length <= start or offset >= end)

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        with self.naming(f"reading the tables for {length} bytes", offset):
            yield from self.below.extents(offset, length)

    def _held(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents of a range that the overlay itself holds: data and zeros."""
        return (each for each in self._extents(offset, length) if each.kind is not Kind.BACKING)

    def _send_taken(self, offset: int, length: int, outlet: Outlet) -> int:
        end = offset + length
        start, stop = offset, end
        if next(self._allocated.unknown(offset, length), None) is not None:
            start = offset // CLUSTER_MAX * CLUSTER_MAX
            stop = min(-(-end // CLUSTER_MAX) * CLUSTER_MAX, self.drive.size)
            self.under_way = start, stop
        for extent in self._held(start, stop - start):
            inside = max(extent.offset, offset), min(extent.end, end)
            if inside[0] < inside[1]:
                self._send_part(extent, *inside, outlet)
            for first, last in (
                (extent.offset, min(extent.end, offset)),
                (max(extent.offset, end), extent.end),
            ):
                for part in self._unseen(first, last):
                    self._send_part(extent, *part, outlet)
            self._allocated.touch(extent.offset, extent.length)
            self._taken = max(0, end - extent.end)
        self._taken = 0
        return 0

    def _unseen(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        """Yield as (start, end) the parts of an allocated range that were neither marked nor sent before."""
        if start < end:
            for first, count in self._allocated.unknown(start, end - start):
                for position, length in self.dirty.clean(first, count):
                    yield position, position + length

    def _send_part(self, extent: Extent, start: int, end: int, outlet: Outlet) -> None:
        if extent.kind is Kind.ZERO:
            self._zeros(start, end - start, outlet)
        else:
            self._taken = max(self._taken, end - start)  # only the run itself was taken from the map
            self._send_run(start, end - start, outlet)

    def _zeros_ahead(self, node: object, offset: int) -> int:
        """Return 0: zeros of the backing image do not matter here."""
        return 0

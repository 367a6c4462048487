"""A copy of what an overlay holds itself: what is left to the backing image stays behind."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qmon.block.dirty import DirtyMap
from qmon.block.node import Extent, Kind
from qmon.migration.drive import MigratingDrive
from qmon.migration.source.copy import Chunks, DriveCopy, Outlet

CLUSTER_MAX = 2 << 20
"""The largest unit in which any format allocates (QEMU, docs/interop/qcow2, "cluster_bits")."""


class IncrementalCopy(DriveCopy):
    """An overlay that travels: only what is allocated in it, zeros that hide the backing image included.

    Two rules keep the destination's overlay as the source's. What is to be sent is asked for again when its
    turn comes, since a chunk may hold clusters that are left to the backing image. And with the first chunk
    of a cluster that a guest made the source allocate goes the rest of that cluster.
    """

    hears_of_zeros = False

    def __init__(self, index: int, drive: MigratingDrive) -> None:
        super().__init__(index, drive)
        self.total = 0
        self._allocated = Chunks(drive.size, self.dirty.granularity)
        """Chunks that have been seen to be allocated, and so were marked or sent."""

    @staticmethod
    def _new_map(size: int) -> DirtyMap:
        return DirtyMap(size)

    def survey(self, pulse: Callable[[], None]) -> None:
        """Mark what is allocated. Guests write meanwhile: what they change is marked when it has changed."""
        for extent in self._extents(0, self.drive.size):
            if extent.kind is not Kind.BACKING:
                self._allocated.touch(extent.offset, extent.length)
                self.dirty.mark(extent.offset, extent.length)
            pulse()
        self.total = self.dirty.dirty_bytes

    def _extents(self, offset: int, length: int) -> Iterator[Extent]:
        with self._naming(f"reading the tables for {length} bytes", offset):
            yield from self._below.extents(offset, length)

    def _held(self, offset: int, length: int) -> Iterator[Extent]:
        """What the overlay holds of a range, data and zeros."""
        return (each for each in self._extents(offset, length) if each.kind is not Kind.BACKING)

    def _send_taken(self, offset: int, length: int, outlet: Outlet) -> int:
        end = offset + length
        start, stop = offset, end
        if next(self._allocated.unknown(offset, length), None) is not None:
            start = offset // CLUSTER_MAX * CLUSTER_MAX
            stop = min(-(-end // CLUSTER_MAX) * CLUSTER_MAX, self.drive.size)
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
        """The parts of an allocated range, as (start, end), that were neither marked nor sent before."""
        if start < end:
            for first, count in self._allocated.unknown(start, end - start):
                for position, length in self.dirty.clean(first, count):
                    yield position, position + length

    def _send_part(self, extent: Extent, start: int, end: int, outlet: Outlet) -> None:
        if extent.kind is Kind.ZERO:
            self._zeros(start, end - start, outlet)
        else:
            self._taken = max(self._taken, end - start)  # what lies around the run was not taken from the map
            self._send_run(start, end - start, outlet)

    def _zeros_ahead(self, node: object, offset: int) -> int:
        """Nothing: that the backing image has zeros there does not matter."""
        return 0

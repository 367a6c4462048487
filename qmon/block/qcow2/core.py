"""The core of an open qcow2 image: its file, its tables and their lock, and reading."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace

from qmon.block import hints
from qmon.block.image_file import ImageFile
from qmon.block.node import Extent, Kind, Node
from qmon.block.qcow2.cluster_set import ClusterSet
from qmon.block.qcow2.compressed import Decompressor
from qmon.block.qcow2.damage import Damage
from qmon.block.qcow2.header import (
    MAX_HEADER_BYTES,
    Autoclear,
    Header,
    Incompatible,
    Qcow2Error,
    parse_header,
)
from qmon.block.qcow2.limits import LIMITS, Limits
from qmon.block.qcow2.mapping import Mapping, Run, State, filled, l2_tables, read_l1
from qmon.block.qcow2.refcounts import Refcounts
from qmon.block.qcow2.requests import Requests
from qmon.block.qcow2.snapshots import Snapshot, read_snapshots

MAX_SNAPSHOTS_L1_ENTRIES = 1 << 19
"""The most L1 entries of all snapshots together for which their L2 tables are checked before writing."""

_ZEROS = bytes(1 << 20)
_KINDS = {
    State.UNALLOCATED: Kind.BACKING,
    State.ZERO: Kind.ZERO,
    State.DATA: Kind.DATA,
    State.COMPRESSED: Kind.DATA,
}


def read_header(file: ImageFile, *, for_writing: bool) -> Header:
    """Read the header of an open file. Raises Qcow2Error, OSError."""
    size = file.size
    data = bytearray(min(MAX_HEADER_BYTES, size))
    file.read_into(0, memoryview(data))
    return parse_header(bytes(data), size, for_writing=for_writing)


def clear(buffer: memoryview) -> None:
    """Fill a buffer with zeros."""
    for start in range(0, len(buffer), len(_ZEROS)):
        count = min(len(_ZEROS), len(buffer) - start)
        buffer[start : start + count] = _ZEROS[:count]


class Core:
    """The state that reading, writing and flushing share. ``lock`` protects the tables, not the data.

    A request looks up the tables under the lock and transfers its data without it. This is safe because a
    freed cluster is not used again before all requests have ended that began before it was freed.
    """

    def __init__(
        self,
        file: ImageFile,
        data: ImageFile | None = None,
        *,
        is_backing: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        """``data`` is an external data file, if any. The caller closes both files. Raises OSError."""
        self.limits = limits
        self.file = file
        self.data = data or file
        self.is_outside = data is not None
        """Whether there is an external data file. Its clusters have fixed places and no reference counts."""
        self.header = header = read_header(file, for_writing=not file.read_only)
        self.kept_autoclear = int(Autoclear.RAW_DATA_FILE if header.is_raw_outside else 0)
        """Autoclear bits of data that are kept up to date here."""
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        self.backing: Node | None = None
        self.size = header.size
        self.requests = Requests()
        self.damage = Damage(file, header, mark=not file.read_only)
        file_size = file.size
        self.snapshots: list[Snapshot] = read_snapshots(file, header, file_size)
        self.metadata = self._fixed_clusters(header)
        writable = not file.read_only
        self.refcounts: Refcounts | None = None
        if writable:
            cached = limits.cached_counts
            self.refcounts = Refcounts(file, header, self.damage, self.metadata, file_size, cached)
        cached = limits.cached_backing_tables if is_backing else limits.cached_tables
        kept = self._snapshots_tables(file_size) if writable else ClusterSet()
        self.mapping = Mapping(file, header, self.damage, self.metadata, file_size, cached, limits)
        if not header.is_dirty:  # if it is, repair corrects the marks before anything is written
            self.mapping.check_not_own(kept)
        self.metadata.add_set(kept)
        self.decompressor = Decompressor(file, header)

    def _fixed_clusters(self, header: Header) -> ClusterSet:
        """Return the clusters of the header, the L1 tables and the snapshot table."""
        size = header.cluster_size
        places = [(0, size), (header.l1_offset, header.l1_entries * 8)]
        places += {(snapshot.l1_offset, snapshot.l1_entries * 8) for snapshot in self.snapshots}
        if self.snapshots:
            places.append((header.snapshots_offset, sum(snapshot.length for snapshot in self.snapshots)))
        clusters = ClusterSet()
        for offset, length in places:
            clusters.update(range(offset // size, -(-(offset + length) // size)))
        return clusters

    def _snapshots_tables(self, file_size: int) -> ClusterSet:
        """Return the clusters of the snapshots' L2 tables. Raises Qcow2Error if they overlap tables, OSError.

        A write to one of these clusters would change the snapshot or free clusters that are in use.
        """
        found = ClusterSet()
        places = {(snapshot.l1_offset, snapshot.l1_entries) for snapshot in self.snapshots}
        if sum(entries for _, entries in places) > MAX_SNAPSHOTS_L1_ENTRIES:
            return found  # too many to check; QEMU does not check them either
        for offset, entries in sorted(places):
            l1 = read_l1(self.file, offset, entries)
            tables, _ = l2_tables(l1, self.header.cluster_bits, file_size, "a snapshot's L1 entry")
            for cluster in tables:
                if cluster in self.metadata:
                    place = cluster << self.header.cluster_bits
                    raise Qcow2Error(f"a snapshot's L2 table overlaps another table: {place:#x}")
            found.add_sorted(tables)
        return found

    def read_now(self, offset: int, buffer: memoryview) -> bool:
        """Fill the buffer from one plain cluster, which the lock keeps in use, if it is cached."""
        if not self.lock.acquire(blocking=False):
            return False
        try:
            place = self.mapping.place(offset, len(buffer), 0)
            return place >= 0 and self.data.read_now(place, buffer)
        finally:
            self.lock.release()

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill a buffer from ``offset``. Raises OSError."""
        if not len(buffer):
            return  # at the disk's end there may be no table
        with self.lock:
            place = self.mapping.place(offset, len(buffer), 0)
            runs = self.mapping.runs(offset, len(buffer)) if place < 0 else []
            epoch = self.requests.enter()
        try:
            if place >= 0:
                self.data.read_into(place, buffer)
            for run in runs:
                start = run.offset - offset
                self.read_run(run, buffer[start : start + run.length])
        finally:
            with self.lock:
                self.requests.leave(epoch)

    def read_run(self, run: Run, buffer: memoryview) -> None:
        """Fill a buffer with a run's bytes. Call it within a request, without the lock. Raises OSError."""
        if run.state == State.DATA:
            self.data.read_into(run.host, buffer)
        elif run.state == State.COMPRESSED:
            start = run.offset & (self.header.cluster_size - 1)
            buffer[:] = memoryview(self.decompressor.cluster(run.host))[start : start + run.length]
        elif run.state == State.UNALLOCATED and self.backing is not None:
            covered = max(0, min(self.backing.size - run.offset, run.length))
            if covered:
                self.backing.read_into(run.offset, buffer[:covered])
            clear(buffer[covered:])
        else:
            clear(buffer)

    def prefetch(self, offset: int, length: int) -> None:
        """Begin to read the data of a range, also the backing node's, into the page cache. Raises OSError."""
        with self.lock:
            runs = self.mapping.runs(offset, length)
        for run in runs:
            if run.state == State.DATA:
                hints.prefetch(self.data, run.host, run.length)
            elif run.state == State.UNALLOCATED and self.backing is not None:
                covered = min(self.backing.size - run.offset, run.length)
                if covered > 0:
                    hints.prefetch(self.backing, run.offset, covered)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents of a range; each step looks up one L2 table."""
        end = offset + length
        mapping = self.mapping
        while offset < end:
            with self.lock:
                stop = min(end, self._table_end(offset))
                runs = mapping.runs(offset, stop - offset)
            start, kind = offset, None
            for run in runs:
                this = _KINDS[run.state]
                if this is not kind:
                    if kind is not None:
                        yield Extent(start, run.offset - start, kind)
                    start, kind = run.offset, this
            if kind is not None:
                yield Extent(start, stop - start, kind)
            offset = stop

    def _table_end(self, offset: int) -> int:
        """Return where one look-up ends: at the end of an L2 table, or of a run of empty L1 entries."""
        mapping = self.mapping
        index = offset >> mapping.table_bits
        if mapping.l1[index]:
            return (index + 1) << mapping.table_bits
        following = filled(mapping.l1, index, min(len(mapping.l1), index + (1 << 16)), 1)
        return (following[0] if following else min(len(mapping.l1), index + (1 << 16))) << mapping.table_bits

    def is_repaired(self) -> None:
        """Note that the dirty bit was cleared."""
        self.set_incompatible(self.header.incompatible & ~Incompatible.DIRTY)

    def set_incompatible(self, bits: int) -> None:
        """Note that the header's incompatible bits were changed to these."""
        self.header = replace(self.header, incompatible=bits)
        self.damage.incompatible = bits

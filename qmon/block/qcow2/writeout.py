"""Writes the tables from memory to the file, in an order that is safe if a crash interrupts it.

First new counts and data, then the tables that refer to them, then the counts of freed clusters; between
these steps the file is flushed. Whichever writes between two flushes a crash has lost, each referenced
cluster has a count and its data. At worst some unused clusters keep a count: they are leaked.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterable, Iterator, Sequence

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.core import Core
from qmon.block.qcow2.entries import CODEC_64, Write
from qmon.block.qcow2.header import REFCOUNT_TABLE_FIELDS, REFCOUNT_TABLE_OFFSET, Qcow2Error
from qmon.block.qcow2.mapping import OFFSET_MASK
from qmon.block.qcow2.refcounts import Refcounts, dirty_sectors
from qmon.block.qcow2.references import MAX_CLUSTERS, References

MAX_GIVEN_UP = 1 << 16
MAX_GIVEN_UP_BYTES = 256 << 20
"""The most bytes of freed clusters that may wait for a flush before they are used again."""

MAX_CHECKED_FIRST_CLUSTERS = 1 << 22
"""The most clusters of a file that is checked before the first change: 8 MiB of counts."""

_EMPTY_ENTRY = bytes(8)

Place = tuple[int, bytes]


class WriteOut:
    """The ordered writes of one image that is open for writing. Thread-safe."""

    def __init__(self, core: Core, refcounts: Refcounts) -> None:
        self._core = core
        self._file = core.file
        self._refcounts = refcounts
        self._bits = core.header.cluster_bits
        self._one_at_a_time = threading.Lock()
        self._given_up: list[int] = []
        """Clusters that have lost one reference in memory, but not yet in the file."""
        self._unreferenced: list[tuple[int, list[int]]] = []
        """Clusters that have lost it in the file, too, with the last epoch in which they were looked up."""
        self._failed: int | None = None
        self._is_unchanged = True

    def check(self) -> None:
        """Raises OSError if the image accepts no more writes."""
        if self._failed is not None:
            raise OSError(
                self._failed,
                f"the image takes no more writes: an earlier flush failed: {os.strerror(self._failed)}",
            )
        if self._core.damage.found:
            raise OSError(errno.EIO, "the image is damaged")

    def before_change(self) -> None:
        """Check all tables once; call it before the first change. Raises OSError.

        If an entry referred to a cluster with count 0, the next allocation would give the cluster a second
        user.
        """
        self.check()
        if self._is_unchanged:
            with self._one_at_a_time:
                if self._is_unchanged and self._is_quickly_checked():
                    self._check_counts()
                self._is_unchanged = False

    def give_up(self, cluster: int) -> None:
        """Note that a cluster has lost a reference. The caller holds the image's lock."""
        self._given_up.append(cluster)

    def give_up_all(self, clusters: Iterable[int]) -> None:
        """Note that many clusters have lost a reference each."""
        self._given_up.extend(clusters)

    @property
    def is_due(self) -> bool:
        """Whether so much waits to be written that the next request should flush."""
        waiting = len(self._given_up)
        return (
            self._core.mapping.cache.dirty_is_much
            or self._refcounts.cache.dirty_is_much
            or waiting > MAX_GIVEN_UP
            or waiting << self._bits > MAX_GIVEN_UP_BYTES
        )

    @property
    def is_plain(self) -> bool:
        """Whether a write in place needs neither a check nor a flush before it."""
        return self._failed is None and not (self._core.damage.found or self._is_unchanged or self.is_due)

    def flush(self) -> None:
        """Return when all earlier writes, and the tables that refer to them, are on stable storage.

        Raises OSError.
        """
        with self._one_at_a_time:
            self.check()
            self._flush()
            self._release()

    def _flush(self) -> None:
        core, refcounts, mapping = self._core, self._refcounts, self._core.mapping
        with core.lock, self._whole():
            epoch = core.requests.begin_epoch()
            moved = refcounts.place_moved_table() if refcounts.has_moved else None
            new_blocks, refcounts.new_blocks = refcounts.new_blocks, set()
            if moved is None:
                blocks = dirty_sectors(refcounts.table, new_blocks, refcounts.table_offset)
            else:
                blocks = [(moved << self._bits, CODEC_64.encode(refcounts.table))]
                refcounts.has_moved = False
            counts = refcounts.cache.take_writes()
            tables = mapping.cache.take_writes()
            l1_indices, mapping.dirty_l1 = mapping.dirty_l1, set()
            l1 = dirty_sectors(mapping.l1, l1_indices, mapping.l1_offset)
            new_tables = {mapping.l1[index] & OFFSET_MASK for index in l1_indices}
            given_up, self._given_up = self._given_up, []
        done = False
        try:
            if core.is_outside:
                self.sync(core.data)
            self._write(_places(counts))
            self._write(_places([write for write in tables if write.table.offset in new_tables]))
            self._reach_end(new_tables)
            self.sync()
            if blocks:
                self._write(blocks)
                self.sync()
                if moved is not None:
                    given_up += self._use_moved_table(moved, len(blocks[0][1]) >> self._bits)
            linking = _places([write for write in tables if write.table.offset not in new_tables]) + l1
            if linking:
                self._write(linking)
                self.sync()
            done = True
        finally:
            with core.lock:
                if done:
                    refcounts.cache.written(counts)
                    mapping.cache.written(tables)
                    if given_up:
                        self._unreferenced.append((epoch, given_up))
                else:
                    refcounts.cache.not_written(counts)
                    mapping.cache.not_written(tables)
                    mapping.dirty_l1 |= l1_indices
                    refcounts.new_blocks |= new_blocks
                    refcounts.has_moved = refcounts.has_moved or moved is not None
                    self._given_up += given_up

    @contextlib.contextmanager
    def _whole(self) -> Iterator[None]:
        """After a MemoryError inside, writes may be missing, so make every later flush fail."""
        try:
            yield
        except MemoryError:
            self._failed = errno.ENOMEM
            raise

    def _reach_end(self, tables: set[int]) -> None:
        """Extend the file to the end of new tables: of a table in a hole only non-empty parts are written."""
        end = max(tables, default=0) + (1 << self._bits)
        if self._file.size < end:
            self._file.write(end - len(_EMPTY_ENTRY), _EMPTY_ENTRY)

    def _use_moved_table(self, start: int, clusters: int) -> list[int]:
        """Write the refcount table's new place to the header; return the clusters of the old table."""
        self._write([(REFCOUNT_TABLE_OFFSET, REFCOUNT_TABLE_FIELDS.pack(start << self._bits, clusters))])
        self.sync()
        with self._core.lock:
            return list(self._refcounts.table_moved(start, clusters))

    def _check_counts(self) -> None:
        """Check the counts before a freed cluster is reused: a count that is too low would give it two users.

        Reads the tables from the file without the lock: they do not change between flushes.
        """
        core, refcounts = self._core, self._refcounts
        if self._table_bytes() > core.limits.checked or core.file.size >> self._bits > MAX_CLUSTERS:
            refcounts.is_trusted = True  # a check would delay the flush too long; QEMU does not check either
            return
        try:
            references = References(core, refcounts)
        except Qcow2Error as error:
            raise core.damage.error(str(error)) from error
        with core.lock:
            refcounts.check(references.counts)

    def _is_quickly_checked(self) -> bool:
        clusters = self._core.file.size >> self._bits
        return (
            self._table_bytes() <= self._core.limits.checked_first and clusters <= MAX_CHECKED_FIRST_CLUSTERS
        )

    def _table_bytes(self) -> int:
        """Return an upper bound of the bytes of L2 tables, of the disk and its snapshots."""
        l1 = self._core.mapping.l1
        tables = len(l1) - l1.count(0) + sum(each.l1_entries for each in self._core.snapshots)
        return tables << self._bits

    def _release(self) -> None:
        """Count down freed clusters that no running request uses. This needs no flush."""
        core, refcounts = self._core, self._refcounts
        if not refcounts.is_trusted and (self._unreferenced or refcounts.wants_trust):
            self._check_counts()
        with core.lock:
            ready = [entry for entry in self._unreferenced if core.requests.are_over(entry[0])]
            if not ready:
                return
            clusters = [cluster for _, given_up in ready for cluster in given_up]
            counts_now = refcounts.get_all(clusters)
            free = [cluster for cluster, count in zip(clusters, counts_now, strict=True) if count == 1]
        self._punch(sorted(set(free)))
        with core.lock, self._whole():
            done = {id(entry) for entry in ready}
            self._unreferenced = [entry for entry in self._unreferenced if id(entry) not in done]
            refcounts.change_all(clusters, -1)
            for cluster, count in zip(clusters, refcounts.get_all(clusters), strict=True):
                if not count:
                    core.mapping.cache.forget(cluster << self._bits)
            counts = refcounts.cache.take_writes()
        try:
            self._write(_places(counts))
        except BaseException:
            with core.lock:
                refcounts.cache.not_written(counts)
            raise
        with core.lock:
            refcounts.cache.written(counts)

    def _punch(self, clusters: Sequence[int]) -> None:
        """Punch holes for freed clusters, if the file system supports it."""
        start = 0
        for end in range(1, len(clusters) + 1):
            if end == len(clusters) or clusters[end] != clusters[end - 1] + 1:
                self._file.give_back(clusters[start] << self._bits, (end - start) << self._bits)
                start = end

    def _write(self, places: Sequence[Place]) -> None:
        for offset, data in places:
            self._file.write(offset, data)

    def switch(self, offset: int, data: bytes) -> None:
        """Write a header field that switches to new tables; flush it. After an OSError ``check`` fails."""
        try:
            self._file.write(offset, data)
        except OSError as error:
            self._failed = error.errno or errno.EIO
            raise
        self.sync()

    def sync(self, file: ImageFile | None = None) -> None:
        """Flush a file. After an OSError it is not known which writes were lost, so ``check`` fails."""
        try:
            (file or self._file).flush()
        except OSError as error:
            self._failed = error.errno or errno.EIO
            raise


def _places(writes: Sequence[Write]) -> list[Place]:
    """Return the writes as (offset, bytes), with adjacent ones joined."""
    places: list[tuple[int, list[bytes]]] = []
    end = -1
    for write in writes:
        if write.offset == end:
            places[-1][1].append(write.data)
        else:
            places.append((write.offset, [write.data]))
        end = write.offset + len(write.data)
    return [(offset, b"".join(pieces)) for offset, pieces in places]

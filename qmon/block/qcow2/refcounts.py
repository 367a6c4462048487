"""Reference counts and allocation of clusters, kept in memory; ``writeout`` writes them in order.

QEMU, docs/interop/qcow2, "Host cluster management". Not thread-safe: callers hold the image's lock.
A cluster is a number here: its offset in the file divided by the cluster size.
"""

from __future__ import annotations

import errno
import operator
import sys
from collections.abc import Iterable, Iterator, Sequence

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.cluster_set import ClusterSet
from qmon.block.qcow2.damage import Damage
from qmon.block.qcow2.entries import CODEC_64, Codec, Entries, Table, TableCache
from qmon.block.qcow2.header import MAX_REFCOUNT_TABLE_BYTES, SECTOR, Header, Qcow2Error

OFFSET_MASK = 0xFFFFFFFFFFFFFE00
UNTRUSTED_CLUSTERS = 4096
"""Clusters to allocate at the file's end before the counts are checked, so that free clusters can be used."""

MAX_FILE_BITS = 56
"""Offsets in metadata are less than 2 to this power."""


def rows(clusters: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield (first, count) of each run of consecutive clusters, in the given order."""
    start, length = 0, len(clusters)
    while start < length:
        first, count, step = clusters[start], 1, 1
        while step and start + count < length:
            step = min(step, length - start - count)
            wanted = range(first + count, first + count + step)
            place = start + count
            if clusters[place] == wanted[0] and (
                step == 1 or all(map(operator.eq, clusters[place : place + step], wanted))
            ):
                count += step
                step *= 2  # so that a long run takes few steps
            else:
                step //= 2
        yield first, count
        start += count


def dirty_sectors(table: Entries, indices: Iterable[int], offset: int) -> list[tuple[int, bytes]]:
    """Return (file offset, bytes) of the sectors with these entries, of a table at ``offset``."""
    in_sector = SECTOR // 8
    sectors = sorted({index // in_sector for index in indices})
    return [
        (offset + sector * SECTOR, CODEC_64.encode(table[sector * in_sector : (sector + 1) * in_sector]))
        for sector in sectors
    ]


class Refcounts:
    """The counts of one image that is open for writing. Raises Qcow2Error if the table is damaged."""

    def __init__(
        self,
        file: ImageFile,
        header: Header,
        damage: Damage,
        metadata: ClusterSet,
        file_size: int,
        cache_bytes: int,
    ) -> None:
        """``metadata`` is the set of clusters with tables; those of the refcount table are added to it."""
        self._bits = header.cluster_bits
        self._damage = damage
        self._metadata = metadata
        self.codec = Codec(header.refcount_order)
        self.in_block = (header.cluster_size * 8) >> header.refcount_order
        self.cache = TableCache(file, self.codec, header.cluster_size, cache_bytes)
        self.table_offset = header.refcount_table_offset
        self.table_clusters = header.refcount_table_clusters
        self.table: Entries = self._read_table(file, file_size)
        self.new_blocks: set[int] = set()
        """Indices of table entries that are not yet written."""
        self.has_moved = False
        """Whether the table has grown and must be written to another place."""
        self._hint = 0
        self._append = self._end() if file.is_device else -(-file_size >> self._bits)
        self._trust_from = self._append + UNTRUSTED_CLUSTERS
        self.is_trusted = False
        """Whether clusters that were counted as free on opening may be allocated."""
        self._fresh_from = -(-file_size >> self._bits) if not file.is_device else sys.maxsize
        """The first cluster that was never written: from here on all are holes."""

    def _read_table(self, file: ImageFile, file_size: int) -> Entries:
        length = self.table_clusters << self._bits
        data = bytearray(length)
        file.read_into(self.table_offset, memoryview(data))
        table = CODEC_64.decode(data)
        start = self.table_offset >> self._bits
        self._metadata.update(range(start, start + self.table_clusters))
        for entry in table:
            if entry:
                cluster = entry >> self._bits
                if entry & ((1 << self._bits) - 1) or entry + (1 << self._bits) > file_size:
                    raise Qcow2Error(f"a refcount block lies outside the file, or is not aligned: {entry:#x}")
                if cluster in self._metadata:
                    raise Qcow2Error(f"a refcount block overlaps another table: {entry:#x}")
                self._metadata.add(cluster)
        return table

    def get(self, cluster: int) -> int:
        """Return a cluster's count. Raises OSError."""
        index, place = divmod(cluster, self.in_block)
        block = self._block(index)
        return block.entries[place] if block else 0

    def change(self, cluster: int, by: int) -> int:
        """Add ``by`` to a cluster's count; return the new count. Raises OSError."""
        index, place = divmod(cluster, self.in_block)
        block = self._block(index) or self._add_block(index)
        count = block.entries[place] + by
        if count < 0:
            raise self._damage.error(f"cluster {cluster} is freed more often than it is used")
        if count > self.codec.max:
            raise OSError(errno.EINVAL, f"cluster {cluster} has too many references")
        block.entries[place] = count
        self.cache.touch(block, place, place)
        if not count:
            self._hint = min(self._hint, cluster)
            self._metadata.discard(cluster)
        return count

    def get_all(self, clusters: Sequence[int]) -> Entries:
        """Return the counts of many clusters in order; runs of neighbours are fast."""
        return self._get_rows(rows(clusters))

    def get_row(self, first: int, count: int) -> Entries:
        """Return the counts of ``count`` clusters from ``first`` on."""
        return self._get_rows(((first, count),))

    def _get_rows(self, wanted: Iterable[tuple[int, int]]) -> Entries:
        counts = self.codec.empty(0)
        for first, count in self._pieces(wanted):
            index, place = divmod(first, self.in_block)
            block = self._block(index)
            counts.extend(block.entries[place : place + count] if block else self.codec.empty(count))
        return counts

    def change_all(self, clusters: Sequence[int], by: int) -> None:
        """Add ``by`` to the counts of many counted clusters. Raises OSError; then no count has changed."""
        ordered = sorted(clusters)
        done = 0
        try:
            for first, count in self._pieces(rows(ordered)):
                index, place = divmod(first, self.in_block)
                block = self._block(index)
                old = block.entries[place : place + count] if block else self.codec.empty(1)
                new = old[0] + by
                if block is None or old.count(old[0]) < count or not 0 < new <= self.codec.max:
                    for cluster in range(first, first + count):
                        self.change(cluster, by)
                        done += 1
                else:
                    block.entries[place : place + count] = self.codec.repeat(new, count)
                    self.cache.touch(block, place, place + count - 1)
                    done += count
        except BaseException:
            for cluster in ordered[:done]:
                self.change(cluster, -by)
            raise

    def _pieces(self, wanted: Iterable[tuple[int, int]]) -> Iterator[tuple[int, int]]:
        """Yield the rows, each split where its counts continue in another block."""
        for first, count in wanted:
            end = first + count
            while first < end:
                part = min(end - first, self.in_block - first % self.in_block)
                yield first, part
                first += part

    def allocate(self, wanted: int) -> tuple[int, int, bool]:
        """Allocate one to ``wanted`` consecutive free clusters. Raises OSError.

        Returns the first, their number, and whether they are holes past the file's end, which read as zeros.
        """
        position = self._hint if self.is_trusted else self._append
        while True:
            index, place = divmod(position, self.in_block)
            block = self._block(index) or self._add_block(index, place)
            try:
                place = block.entries.index(0, place)
            except ValueError:
                position = (index + 1) * self.in_block
                continue
            most = min(place + wanted, self.in_block)
            end = most if block.entries[place:most] == self.codec.empty(most - place) else place + 1
            while end < most and not block.entries[end]:
                end += 1
            first, count = index * self.in_block + place, end - place
            self._check_free(first, count)
            block.entries[place:end] = self.codec.repeat(1, count)
            self.cache.touch(block, place, end - 1)
            if self.is_trusted:
                self._hint = first + count
            else:
                self._append = first + count
            return first, count, self._use(first, count)

    def allocate_table(self, count: int) -> tuple[int, bool]:
        """Allocate exactly ``count`` consecutive free clusters for a table. Raises OSError.

        Returns the first, and whether they are holes.
        """
        hint = self._hint if self.is_trusted else self._append
        start = position = hint if count == 1 else max(hint, self._end())
        while position - start < count:
            index, place = divmod(position, self.in_block)
            block = self._block(index) or (self._add_block(index, place) if count == 1 else None)
            if block is None:  # its new block would lie within the range
                position = (index + 1) * self.in_block
            elif not block.entries[place]:
                position += 1
            else:
                try:
                    position += block.entries.index(0, place) - place
                except ValueError:
                    position = (index + 1) * self.in_block
                start = position
        self._check_free(start, count)
        is_fresh = self._use(start, count)
        end = self._add_blocks_behind(start, start + count)
        for cluster in range(start, end):
            self.change(cluster, 1)
        self._metadata.update(range(start, start + count))
        if not self.is_trusted:
            self._append = end
        elif start == self._hint:
            self._hint = end
        return start, is_fresh

    def _add_blocks_behind(self, start: int, end: int) -> int:
        """Add the blocks that count the clusters from ``start`` on; put them at ``end``, which is free.

        Returns the cluster after the new blocks. The blocks themselves are not counted yet.
        """
        if self.has_block(start // self.in_block) and start // self.in_block == (end - 1) // self.in_block:
            return end
        most = -(-(end - start) // self.in_block) + 2
        most += -(-most // self.in_block)
        if (end + most) // self.in_block >= len(self.table):
            self._grow_table((end + most) // self.in_block + 1)
        index = start // self.in_block
        while index * self.in_block < end:
            if not self.has_block(index):
                self.add_block_at(index, end)
                end += 1
            index += 1
        return end

    @property
    def wants_trust(self) -> bool:
        """Whether the file has grown so much that its old free clusters should be used."""
        return not self.is_trusted and self._append > self._trust_from

    def check(self, references: Sequence[int]) -> None:
        """Compare the counts with the real references, then trust them. Raises OSError for too low counts."""
        for start in range(0, len(references), self.in_block):
            wanted = references[start : start + self.in_block]
            block = self._block(start // self.in_block)
            have = block.entries if block else self.codec.empty(len(wanted))
            if any(map(operator.gt, wanted, have)):
                raise self._damage.error("clusters are used more often than their reference counts say")
        self.is_trusted = True

    def place_moved_table(self) -> int:
        """Allocate clusters for the grown table and return the first; ``table_moved`` must follow."""
        clusters = len(self.table) * 8 >> self._bits
        while True:
            start, _ = self.allocate_table(clusters)
            needed = len(self.table) * 8 >> self._bits
            if needed == clusters:
                return start
            for cluster in range(start, start + clusters):  # the table has grown again, to count itself
                self.change(cluster, -1)
                self._metadata.discard(cluster)
            clusters = needed

    def table_moved(self, start: int, clusters: int) -> range:
        """Note that the grown table is in use; return the clusters of the old one, which are to be freed."""
        old = self.table_offset >> self._bits
        old_clusters = range(old, old + self.table_clusters)
        self._metadata.discard_all(old_clusters)
        self.table_offset = start << self._bits
        self.table_clusters = clusters
        return old_clusters

    def _end(self) -> int:
        """Return a cluster from which on few are in use: the first after those that the last block counts."""
        last = max((index for index, entry in enumerate(self.table) if entry), default=0)
        block = self._block(last)
        return 0 if block is None else last * self.in_block + _used(block.entries)

    def _check_free(self, first: int, count: int) -> None:
        if (first + count) << self._bits > 1 << MAX_FILE_BITS:
            raise OSError(errno.EFBIG, "the image file can't grow any more: its offsets are at their limit")
        if self._metadata.meets(first, first + count):
            raise self._damage.error(
                f"a cluster from {first} to {first + count - 1} is in use, but its reference count is 0"
            )

    def _block(self, index: int) -> Table | None:
        entry = self.table[index] if index < len(self.table) else 0
        return self.cache.load(entry) if entry else None

    def has_block(self, index: int) -> bool:
        """Whether the block ``index`` exists, which counts clusters from ``index * in_block`` on."""
        return index < len(self.table) and bool(self.table[index])

    def counted_from(self, cluster: int) -> Iterator[int]:
        """Yield the clusters from ``cluster`` on whose count is not 0. Raises OSError."""
        for index in range(cluster // self.in_block, len(self.table)):
            block = self._block(index)
            if block is not None:
                start = index * self.in_block
                for place in range(max(0, cluster - start), _used(block.entries)):
                    if block.entries[place]:
                        yield start + place

    def _add_block(self, index: int, place: int = 0) -> Table:
        """Add a block whose counts are all zero, except its own: it lies in a cluster that it counts."""
        block = self.add_block_at(index, index * self.in_block + place)
        block.entries[place] = 1
        return block

    def add_block_at(self, index: int, cluster: int) -> Table:
        """Add a block in a given cluster; the cluster is not counted yet. Raises OSError."""
        if index >= len(self.table):
            self._grow_table(index + 1)
        self._check_free(cluster, 1)
        offset = cluster << self._bits
        block = self.cache.add(offset, self.codec.empty(self.in_block))
        self.table[index] = offset
        self.new_blocks.add(index)
        self._metadata.add(cluster)
        self._use(cluster, 1)
        return block

    def _use(self, first: int, count: int) -> bool:
        was_fresh = first >= self._fresh_from
        self._fresh_from = max(self._fresh_from, first + count)
        return was_fresh

    def _grow_table(self, needed: int) -> None:
        in_cluster = 1 << self._bits - 3
        wanted = -(-max(needed, len(self.table) * 3 // 2) // in_cluster) * in_cluster
        if wanted * 8 > MAX_REFCOUNT_TABLE_BYTES:
            raise OSError(errno.EFBIG, "the image file can't grow any more: its refcount table is full")
        self.table.extend(CODEC_64.empty(wanted - len(self.table)))
        self.has_moved = True


def _used(entries: Entries) -> int:
    """Return the number of entries up to the last non-zero one; fast for blocks with millions of entries."""
    return -(-len(entries.tobytes().rstrip(b"\0")) // entries.itemsize)

"""Counts the references to each cluster of an image, with which its reference counts are compared.

Reads all tables from the file.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable

from qmon.block.qcow2.bitmaps import read_directory
from qmon.block.qcow2.compressed import clusters as compressed_clusters
from qmon.block.qcow2.core import Core
from qmon.block.qcow2.entries import CODEC_64, Entries
from qmon.block.qcow2.header import Qcow2Error
from qmon.block.qcow2.mapping import COMPRESSED, OFFSET_MASK, filled, read_l1, table_rows
from qmon.block.qcow2.refcounts import Refcounts

MAX_CLUSTERS = 1 << 26
"""The most clusters of an image that is counted; each takes two bytes. Larger images need qemu-img."""

_MAX_BEHIND = 1 << 16
"""Clusters past the file's end that tables may refer to: allocated for zeros, never written."""

_MAX_COUNT = 65535


class References:
    """The number of references to each cluster. Raises Qcow2Error for invalid references, OSError."""

    def __init__(self, core: Core, refcounts: Refcounts) -> None:
        self._core = core
        self._bits = core.header.cluster_bits
        clusters = -(-core.file.size >> self._bits)
        if clusters > MAX_CLUSTERS:
            raise Qcow2Error("the image is too large to be repaired here: run qemu-img check -r all on it")
        self.counts = array("H", bytes(2)) * clusters
        self._limit = clusters + _MAX_BEHIND
        header = core.header
        self._add_place(0, header.cluster_size)
        self._add_place(refcounts.table_offset, refcounts.table_clusters << self._bits)
        self._add(entry >> self._bits for entry in refcounts.table if entry)
        if core.snapshots:
            self._add_place(header.snapshots_offset, sum(each.length for each in core.snapshots))
        places = [(header.l1_offset, header.l1_entries)]
        places += [(snapshot.l1_offset, snapshot.l1_entries) for snapshot in core.snapshots]
        for offset, entries in places:
            self._add_place(offset, entries * 8)
        self.knows_all = self._add_bitmaps()
        """Whether all users of clusters are known, so that the other clusters are free."""
        self._check_single()
        for offset, entries in places:
            self._add_mapping(read_l1(core.file, offset, entries))

    def count(self, cluster: int) -> int:
        return self.counts[cluster] if cluster < len(self.counts) else 0

    def append(self) -> int:
        """Add one cluster at the end, with one reference; return it."""
        self.counts.append(1)
        return len(self.counts) - 1

    def _check_single(self) -> None:
        if max(self.counts, default=0) > 1:
            cluster = next(cluster for cluster, count in enumerate(self.counts) if count > 1)
            raise Qcow2Error(f"two tables share a cluster, at {cluster << self._bits:#x}")

    def _add_place(self, offset: int, length: int) -> None:
        if offset & ((1 << self._bits) - 1):
            raise Qcow2Error(f"a table is not aligned: {offset:#x}")
        self._add(range(offset >> self._bits, -(-(offset + length) >> self._bits)))

    def _add_row(self, first: int, count: int) -> None:
        """Do ``_add`` for consecutive clusters, but fast."""
        here = self.counts[first : first + count]
        if len(here) == count and here[0] < _MAX_COUNT and here.count(here[0]) == count:
            self.counts[first : first + count] = array("H", [here[0] + 1]) * count
        else:
            self._add(range(first, first + count))

    def _add(self, clusters: Iterable[int]) -> None:
        counts = self.counts
        for cluster in clusters:
            if cluster >= len(counts):
                if cluster >= self._limit:
                    raise Qcow2Error(f"a cluster lies outside the file: {cluster << self._bits:#x}")
                counts.extend(bytes(cluster + 1 - len(counts)))
            if counts[cluster] == _MAX_COUNT:
                raise Qcow2Error(f"a cluster has too many references: {cluster << self._bits:#x}")
            counts[cluster] += 1

    def _add_mapping(self, l1: Entries) -> None:
        """Count the L2 tables of an L1 table, and their clusters."""
        core = self._core
        for index in filled(l1, 0, len(l1)):
            offset = l1[index] & OFFSET_MASK
            if offset & (core.header.cluster_size - 1) or offset + core.header.cluster_size > core.file.size:
                raise Qcow2Error(f"an L2 table lies outside the file, or is not aligned: {offset:#x}")
            self._add((offset >> self._bits,))
            if core.is_outside:
                continue
            entries = self.table(offset)
            for start, count in table_rows(entries, core.header.cluster_size):
                entry = entries[start]
                if entry & COMPRESSED:
                    for each in entries[start : start + count]:
                        self._add(compressed_clusters(each, self._bits))
                elif entry & OFFSET_MASK:
                    place = entry & OFFSET_MASK
                    if place & (core.header.cluster_size - 1):
                        raise Qcow2Error(f"a cluster is not aligned: {place:#x}")
                    self._add_row(place >> self._bits, count)

    def table(self, offset: int) -> Entries:
        """Read the entries of an L2 table from the file."""
        data = bytearray(self._core.header.cluster_size)
        self._core.file.read_into(offset, memoryview(data))
        return CODEC_64.decode(data)

    def _add_bitmaps(self) -> bool:
        """Count the clusters of persistent bitmaps; return False if the bitmaps are not up to date."""
        core = self._core
        directory = read_directory(core.file, core.header)
        if directory is None:
            return core.header.bitmaps is None
        self._add_place(directory.offset, directory.length)
        for bitmap in directory.bitmaps:
            if bitmap.table_offset + bitmap.table_entries * 8 > core.file.size:
                raise Qcow2Error("a bitmap's table lies outside the file")
            self._add_place(bitmap.table_offset, bitmap.table_entries * 8)
            clusters = read_l1(core.file, bitmap.table_offset, bitmap.table_entries)
            self._add((entry & OFFSET_MASK) >> self._bits for entry in clusters if entry & OFFSET_MASK)
        return True

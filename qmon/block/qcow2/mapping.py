"""The L1 and L2 tables: maps guest offsets to clusters of the file.

QEMU, docs/interop/qcow2, "Cluster mapping". Not thread-safe: callers hold the image's lock.
"""

from __future__ import annotations

import functools
import itertools
import operator
import re
import sys
from array import array
from collections.abc import Iterator
from typing import NamedTuple

from qmon.block.image_file import ImageFile
from qmon.block.qcow2.cluster_set import ClusterSet, sorted_array
from qmon.block.qcow2.damage import Damage
from qmon.block.qcow2.entries import CODEC_64, Entries, Table, TableCache
from qmon.block.qcow2.header import Header, Qcow2Error
from qmon.block.qcow2.limits import Limits

COPIED = 1 << 63
"""The cluster or table has one reference, so it may be written in place."""
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00

_L1_RESERVED = ~(COPIED | OFFSET_MASK)
_L2_RESERVED = ~(COPIED | OFFSET_MASK | ZERO)

_LOOKED_AT_ONCE = 1 << 16
_ROW = 16
"""Entries of the first comparison: with 64 KiB clusters they map 1 MiB."""
_NONZERO_BYTE = re.compile(rb"[^\0]")
_EMPTY = bytes(4096)
"""Zeros to compare with. Comparing blocks is a hundred times faster than searching a table."""


class State:
    """The states of a run of guest bytes. They are plain integers because each read checks them."""

    UNALLOCATED = 0
    ZERO = 1
    DATA = 2
    COMPRESSED = 3


class Run(NamedTuple):
    """A run of guest bytes in one state; ``host`` is its offset in the file, or its compressed L2 entry."""

    state: int
    host: int
    offset: int
    length: int


class Mapping:
    """The active L1 and L2 tables of one image. Raises Qcow2Error if the L1 table is damaged."""

    def __init__(
        self,
        file: ImageFile,
        header: Header,
        damage: Damage,
        metadata: ClusterSet,
        file_size: int,
        cache_bytes: int,
        limits: Limits,
    ) -> None:
        """``metadata`` is the set of clusters with tables; the active L2 tables are added to it."""
        self._file = file
        self._damage = damage
        self._metadata = metadata
        self._is_outside = header.data_file is not None
        self._tables_among_data = ClusterSet() if self._is_outside else metadata
        self._version = header.version
        self._bits = header.cluster_bits
        self._in_cluster = header.cluster_size - 1
        self._known_end = sys.maxsize if self._is_outside else file_size
        self.in_table = 1 << header.l2_bits
        self.table_bits = header.cluster_bits + header.l2_bits
        """The binary logarithm of the guest bytes that one L2 table maps."""
        self.cache = TableCache(file, CODEC_64, header.cluster_size, cache_bytes)
        self.l1: Entries = read_l1(file, header.l1_offset, header.l1_entries)
        self.l1_offset = header.l1_offset
        self.dirty_l1: set[int] = set()
        """Indices of entries that are changed in memory but not yet written."""
        self._knows_tables = len(self.l1) - self.l1.count(0) <= limits.tables_looked_at
        if self._knows_tables:
            self._check_l1(file_size)

    def _check_l1(self, file_size: int) -> None:
        tables, shared = l2_tables(self.l1, self._bits, file_size, "L1 entry")
        for cluster in tables:
            if cluster in self._metadata:
                raise Qcow2Error(f"an L2 table overlaps another table: {cluster << self._bits:#x}")
        if shared:
            self.check_not_own(shared)
        self._metadata.add_sorted(tables)

    def check_not_own(self, shared: ClusterSet | set[int]) -> None:
        """Raises Qcow2Error if an L2 table that snapshots share is marked COPIED."""
        if not self._knows_tables:
            return  # too many to check; QEMU does not check them either
        for start in range(0, len(self.l1), _LOOKED_AT_ONCE):
            for entry in self.l1[start : start + _LOOKED_AT_ONCE]:
                if entry & COPIED and (entry & OFFSET_MASK) >> self._bits in shared:
                    raise Qcow2Error(
                        f"an L2 table is marked as used once but is used twice: {entry & OFFSET_MASK:#x}"
                    )

    def table(self, l1_index: int) -> Table | None:
        """Return the L2 table of an L1 entry, None if it has none. Raises OSError."""
        entry = self.l1[l1_index]
        if not entry:
            return None
        offset = entry & OFFSET_MASK
        table = self.cache.get(offset)
        if table is None:
            if not self._knows_tables:
                self._check_l1_entry(entry)
            table = self.cache.load(offset)
        return table

    def _check_l1_entry(self, entry: int) -> None:
        """Raises OSError, and marks the image as damaged, if the entry can't refer to an L2 table.

        It does not check whether the cluster really holds one.
        """
        offset = entry & OFFSET_MASK
        is_made_here = offset >> self._bits in self._metadata  # it may not be in the file yet
        is_inside = is_made_here or 0 < offset <= self._file.size - self._in_cluster - 1
        if entry & _L1_RESERVED or offset & self._in_cluster or not is_inside:
            raise self._damage.error(f"an L1 entry is invalid: {entry:#x}")

    def place(self, offset: int, length: int, marks: int) -> int:
        """Return the file offset of a range within one plain cluster, else -1: a fast path before ``runs``.

        The L1 and L2 entries must have all bits of ``marks``: 0 for a read, COPIED for a write in place.
        """
        inside = offset & self._in_cluster
        l1_entry = self.l1[offset >> self.table_bits]
        table = self.cache.get(l1_entry & OFFSET_MASK)
        if table is None or inside + length > self._in_cluster + 1:
            return -1
        entry = table.entries[offset >> self._bits & self.in_table - 1]
        host = entry & OFFSET_MASK
        if (
            l1_entry & entry & marks != marks
            or entry & ~(COPIED | OFFSET_MASK)
            or not host
            or host & self._in_cluster
            or host >= self._known_end
            or host >> self._bits in self._tables_among_data
            or (self._is_outside and host != offset - inside)
        ):
            return -1
        return host + inside

    def runs(self, offset: int, length: int) -> list[Run]:
        """Return the runs of a range, without gaps. Raises OSError."""
        found: list[Run] = []
        end = offset + length
        while offset < end:
            l1_index = offset >> self.table_bits
            stop = min(end, (l1_index + 1) << self.table_bits)
            table = self.table(l1_index)
            if table is None:
                if stop < end:
                    following = filled(self.l1, l1_index + 1, (end - 1 >> self.table_bits) + 1, 1)
                    stop = following[0] << self.table_bits if following else end
                found.append(Run(State.UNALLOCATED, 0, offset, stop - offset))
            else:
                self._table_runs(table.entries, offset, stop, found)
            offset = stop
        return found

    def _table_runs(self, entries: Entries, offset: int, stop: int, found: list[Run]) -> None:
        bits = self._bits
        in_cluster = (1 << bits) - 1
        index = (offset >> bits) & (self.in_table - 1)
        end = index + ((stop - 1) >> bits) - (offset >> bits) + 1
        # the run that is being built
        start, state, host, next_host = offset, -1, 0, 0
        while offset < stop:
            entry = entries[index]
            here = 0
            if not entry:
                kind = State.UNALLOCATED
            elif entry & COMPRESSED and not self._is_outside:
                kind, here = State.COMPRESSED, entry
            elif entry & ZERO:
                self.check_entry(entry, offset)
                kind = State.ZERO
            else:
                kind = State.DATA
                here = (entry & OFFSET_MASK) + (offset & in_cluster)
            if kind != state or kind == State.COMPRESSED or (kind == State.DATA and here != next_host):
                if offset > start:
                    found.append(Run(state, host, start, offset - start))
                start, state, host = offset, kind, here
            count = 1
            if not entry and index + 1 < end and not entries[index + 1]:  # skip an empty part in one step
                count = next(iter(filled(entries, index + 2, end, 1)), end) - index
            elif kind == State.ZERO:
                count = row(entries, index, end - index, 0 if entry == ZERO else in_cluster + 1)
            elif kind == State.DATA:
                count = row(entries, index, end - index, in_cluster + 1)
                self.check_row(entry, count, offset)
            following = min(stop, ((offset >> bits) + count) << bits)
            next_host = here + following - offset
            offset = following
            index += count
        found.append(Run(state, host, start, stop - start))

    def check_row(self, entry: int, count: int, guest: int, *, may_be_new: bool = False) -> None:
        """Do ``check_entry`` for ``count`` entries that refer to consecutive clusters, given the first."""
        self.check_entry(entry, guest, may_be_new=may_be_new)
        first = (entry & OFFSET_MASK) >> self._bits
        if self._is_outside or count == 1:
            return
        is_behind = not may_be_new and first + count - 1 << self._bits >= self._known_end
        if is_behind or self._metadata.meets(first, first + count):
            for number in range(1, count):
                place = number << self._bits
                self.check_entry(entry + place, guest + place, may_be_new=may_be_new)

    def check_entry(self, entry: int, guest: int, *, may_be_new: bool = False) -> None:
        """Raises OSError, and marks the image as damaged, for an invalid entry of a standard cluster.

        ``guest`` is an offset in the guest cluster of the entry. With ``may_be_new`` the cluster may lie past
        the end of the file: it was allocated for zeros and not written.
        """
        offset = entry & OFFSET_MASK
        if entry & _L2_RESERVED or offset & ((1 << self._bits) - 1) or (entry & ZERO and self._version < 3):
            raise self._damage.error(f"an L2 entry is invalid: {entry:#x}")
        if self._is_outside:
            if offset != guest & ~((1 << self._bits) - 1) and not (entry & ZERO and not offset):
                raise self._damage.error(f"an L2 entry has a wrong offset in the data file: {entry:#x}")
            return
        if entry & ZERO:
            return
        if not offset or offset >> self._bits in self._metadata:
            raise self._damage.error(f"an L2 entry refers to a cluster that holds a table: {offset:#x}")
        if offset >= self._known_end and not may_be_new:
            self._known_end = self._file.size
            if offset >= self._known_end:
                raise self._damage.error(f"an L2 entry refers to a cluster outside the file: {offset:#x}")


def row(entries: Entries, index: int, most: int, step: int) -> int:
    """Return how many entries from ``index`` on, at most ``most``, each exceed the one before by ``step``."""
    first = entries[index]
    count, size = 1, min(_ROW, most - 1)
    while size:
        start, stop = first + count * step, first + (count + size) * step
        fits = (first & OFFSET_MASK) + stop - first <= OFFSET_MASK  # larger values would not be offsets
        wanted = array("Q", range(start, stop, step)) if step and fits else array("Q", [first]) * size
        here = entries[index + count : index + count + size]
        if fits and here == wanted:
            count += size
            size = min(size * 2, most - count)
        elif fits and size <= _ROW:
            return count + list(map(operator.eq, here, wanted)).index(False)
        else:
            size //= 2
    return count


def table_rows(entries: Entries, step: int) -> Iterator[tuple[int, int]]:
    """Yield (index, count) of the rows of non-zero entries that each exceed the one before by ``step``.

    An entry with offset 0 is a row of its own: the next may exceed it by ``step`` and refer to the first
    cluster.
    """
    index, end = 0, len(entries)
    while index < end:
        entry = entries[index]
        if not entry:
            index = next(iter(filled(entries, index + 1, end, 1)), end)
            continue
        goes_on = entry & OFFSET_MASK and index + 1 < end and entries[index + 1] == entry + step
        count = row(entries, index, end - index, step) if goes_on else 1
        yield index, count
        index += count


def read_l1(file: ImageFile, offset: int, count: int) -> Entries:
    """Read an L1 table without checking its entries."""
    data = bytearray(count * 8)
    file.read_into(offset, memoryview(data))
    return CODEC_64.decode(data)


def l2_tables(l1: Entries, cluster_bits: int, file_size: int, what: str) -> tuple[Entries, set[int]]:
    """Return the L2 clusters of an L1 table, sorted, and the set of those that occur more than once.

    Raises Qcow2Error for invalid entries; ``what`` names the entries in the message.
    """
    named: Entries = array("Q", (entry for entry in l1 if entry))
    bits = functools.reduce(operator.or_, named, 0)
    size = 1 << cluster_bits
    if bits & _L1_RESERVED or bits & OFFSET_MASK & (size - 1):
        wrong = next(e for e in named if e & _L1_RESERVED or e & OFFSET_MASK & (size - 1))
        raise Qcow2Error(f"the image is damaged: {what} {l1.index(wrong)} holds the invalid value {wrong:#x}")
    tables: Entries = sorted_array(array("Q", ((entry & OFFSET_MASK) >> cluster_bits for entry in named)))
    if tables and not tables[0]:
        wrong = next(entry for entry in named if not entry & OFFSET_MASK)
        raise Qcow2Error(f"{what} {l1.index(wrong)} is marked as in use but refers to no table")
    if tables and tables[-1] + 1 << cluster_bits > file_size:
        raise Qcow2Error(f"{what} refers to an L2 table outside the file: {tables[-1] << cluster_bits:#x}")
    following = itertools.islice(tables, 1, None)
    return tables, {one for one, other in zip(tables, following, strict=False) if one == other}


def filled(entries: array[int], first: int, stop: int, most: int = sys.maxsize) -> list[int]:
    """Return the indices from ``first`` to ``stop - 1`` of non-zero entries, at most ``most`` of them.

    Empty parts of the table cost hardly any time.
    """
    found: list[int] = []
    view = memoryview(entries).cast("B")
    position, end = first * 8, stop * 8
    while len(found) < most and position < end:
        step = min(end, position + len(_EMPTY))
        match = None if _EMPTY.startswith(view[position:step]) else _NONZERO_BYTE.search(view, position, step)
        position = step
        if match is not None:
            found.append(match.start() // 8)
            position = (found[-1] + 1) * 8
    view.release()
    return found

"""Where a guest's bytes lie: the L1 and L2 tables.

QEMU, docs/interop/qcow2, "Cluster mapping". Not thread-safe: the image's lock is held by whoever calls.
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

from qmon.block.file import FileNode
from qmon.block.qcow2.cluster_set import ClusterSet, sorted_array
from qmon.block.qcow2.damage import Damage
from qmon.block.qcow2.entries import CODEC_64, Entries, Table, TableCache
from qmon.block.qcow2.header import Header, Qcow2Error

COPIED = 1 << 63
"""The cluster or table is referred to once, so it may be written in place."""
COMPRESSED = 1 << 62
ZERO = 1
OFFSET_MASK = 0x00FFFFFFFFFFFE00

_L1_RESERVED = ~(COPIED | OFFSET_MASK)
_L2_RESERVED = ~(COPIED | OFFSET_MASK | ZERO)
MAX_TABLES_LOOKED_AT = 1 << 19
"""L2 tables up to which all are looked at on opening, which takes a second for twice as many."""

_LOOKED_AT_ONCE = 1 << 16
_ROW = 16
"""Entries that are compared at once first: the clusters of 1 MiB, mostly."""
_NONZERO_BYTE = re.compile(rb"[^\0]")
_EMPTY = bytes(4096)
"""Compared at once: a search goes through a table a hundred times slower."""


class State:
    """What a run of guest bytes is; plain integers, since this is asked for at each read."""

    UNALLOCATED = 0
    ZERO = 1
    DATA = 2
    COMPRESSED = 3


class Run(NamedTuple):
    """A run of guest bytes in one state; ``host`` is their offset in the file, or the compressed entry."""

    state: int
    host: int
    offset: int
    length: int


class Mapping:
    """The active tables of one image. Raises Qcow2Error for an L1 table that is damaged."""

    def __init__(
        self,
        file: FileNode,
        header: Header,
        damage: Damage,
        metadata: ClusterSet,
        file_size: int,
        cache_bytes: int,
    ) -> None:
        """``metadata`` is the set of clusters that hold tables, to which the active L2 tables are added."""
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
        """Of the guest bytes that one L2 table is for."""
        self.cache = TableCache(file, CODEC_64, header.cluster_size, cache_bytes)
        self.l1: Entries = read_l1(file, header.l1_offset, header.l1_entries)
        self.l1_offset = header.l1_offset
        self.dirty_l1: set[int] = set()
        """Entries that are not written down yet."""
        self._knows_tables = len(self.l1) - self.l1.count(0) <= MAX_TABLES_LOOKED_AT
        if self._knows_tables:
            self._check_l1(file_size)

    def _check_l1(self, file_size: int) -> None:
        tables, shared = l2_tables(self.l1, self._bits, file_size, "L1 entry")
        for cluster in tables:
            if cluster in self._metadata:
                raise Qcow2Error(f"an L2 table lies on another table: {cluster << self._bits:#x}")
        if shared:
            self.check_not_own(shared)
        self._metadata.add_sorted(tables)

    def check_not_own(self, shared: ClusterSet | set[int]) -> None:
        """Raises Qcow2Error if a table that others use is marked as this disk's alone."""
        if not self._knows_tables:
            return  # as QEMU trusts them
        for start in range(0, len(self.l1), _LOOKED_AT_ONCE):
            for entry in self.l1[start : start + _LOOKED_AT_ONCE]:
                if entry & COPIED and (entry & OFFSET_MASK) >> self._bits in shared:
                    raise Qcow2Error(
                        f"an L2 table is marked as used once, and is used twice: {entry & OFFSET_MASK:#x}"
                    )

    def table(self, l1_index: int) -> Table | None:
        """The L2 table of an L1 entry, None where there is none. Raises OSError."""
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
        """Raises OSError, and marks the image, for one that can't be; what else may lie there is not seen."""
        offset = entry & OFFSET_MASK
        is_made_here = offset >> self._bits in self._metadata  # and maybe not written yet
        is_inside = is_made_here or 0 < offset <= self._file.size - self._in_cluster - 1
        if entry & _L1_RESERVED or offset & self._in_cluster or not is_inside:
            raise self._damage.error(f"an L1 entry can't be: {entry:#x}")

    def place(self, offset: int, length: int, marks: int) -> int:
        """Where a range within one plain cluster lies in the file, -1 for others: the short way of ``runs``.

        The entries of both tables have all the bits of ``marks``: 0 to read, COPIED to write there.
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
        """The states of a range, without gaps. Raises OSError."""
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
        # the run that is being put together
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
            if not entry and index + 1 < end and not entries[index + 1]:  # a large empty part in one step
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
        """``check_entry`` for an entry and those behind it that name the clusters behind its own."""
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
        """Raises OSError, and marks the image, for an entry of a standard cluster that can't be true.

        ``guest`` is an offset in the guest's cluster that it is for. One that ``may_be_new`` reads as zeros,
        so the file may end before it.
        """
        offset = entry & OFFSET_MASK
        if entry & _L2_RESERVED or offset & ((1 << self._bits) - 1) or (entry & ZERO and self._version < 3):
            raise self._damage.error(f"an L2 entry can't be: {entry:#x}")
        if self._is_outside:
            if offset != guest & ~((1 << self._bits) - 1) and not (entry & ZERO and not offset):
                raise self._damage.error(f"an L2 entry names another place of the data file: {entry:#x}")
            return
        if entry & ZERO:
            return
        if not offset or offset >> self._bits in self._metadata:
            raise self._damage.error(f"an L2 entry names a cluster that holds a table: {offset:#x}")
        if offset >= self._known_end and not may_be_new:
            self._known_end = self._file.size
            if offset >= self._known_end:
                raise self._damage.error(f"an L2 entry names a cluster outside the file: {offset:#x}")


def row(entries: Entries, index: int, most: int, step: int) -> int:
    """How many entries from ``index`` on, at most ``most``, are each larger by ``step`` than the last."""
    first = entries[index]
    count, size = 1, min(_ROW, most - 1)
    while size:
        start, stop = first + count * step, first + (count + size) * step
        fits = (first & OFFSET_MASK) + stop - first <= OFFSET_MASK  # else it would be more than an offset
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
    """The entries that are not 0, as rows of those each larger by ``step`` than the last: (index, count).

    One that names no cluster is a row of its own: what follows may be larger by ``step``, and name the first.
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


def read_l1(file: FileNode, offset: int, count: int) -> Entries:
    """An L1 table; nothing of it is looked at."""
    data = bytearray(count * 8)
    file.read_into(offset, memoryview(data))
    return CODEC_64.decode(data)


def l2_tables(l1: Entries, cluster_bits: int, file_size: int, what: str) -> tuple[Entries, set[int]]:
    """The clusters that an L1 table names, in order, and those of them that it names more than once.

    Raises Qcow2Error for entries that can't be; ``what`` is what they are called.
    """
    named: Entries = array("Q", (entry for entry in l1 if entry))
    bits = functools.reduce(operator.or_, named, 0)
    size = 1 << cluster_bits
    if bits & _L1_RESERVED or bits & OFFSET_MASK & (size - 1):
        wrong = next(e for e in named if e & _L1_RESERVED or e & OFFSET_MASK & (size - 1))
        raise Qcow2Error(f"{what} {l1.index(wrong)} is damaged: {wrong:#x}")
    tables: Entries = sorted_array(array("Q", ((entry & OFFSET_MASK) >> cluster_bits for entry in named)))
    if tables and not tables[0]:
        wrong = next(entry for entry in named if not entry & OFFSET_MASK)
        raise Qcow2Error(f"{what} {l1.index(wrong)} is marked as in use, but names no table")
    if tables and tables[-1] + 1 << cluster_bits > file_size:
        raise Qcow2Error(f"{what} names an L2 table outside the file: {tables[-1] << cluster_bits:#x}")
    following = itertools.islice(tables, 1, None)
    return tables, {one for one, other in zip(tables, following, strict=False) if one == other}


def filled(entries: array[int], first: int, stop: int, most: int = sys.maxsize) -> list[int]:
    """The indices from ``first`` to before ``stop`` whose entries are not 0, the first ``most`` of them.

    Empty parts cost next to nothing.
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

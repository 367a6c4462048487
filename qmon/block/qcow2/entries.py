"""Tables of 1 to 64 bit numbers in memory and in the file's encoding: L1, L2, refcounts.

A table in memory is an array with one element for each entry, so that searches run at C's speed.
"""

from __future__ import annotations

import sys
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from qmon.block.image_file import ImageFile

_TYPECODES = {0: "B", 1: "B", 2: "B", 3: "B", 4: "H", 5: "I", 6: "Q"}
_SWAPPED = sys.byteorder == "little"
_KEPT_UNSEEN = 16
"""When the cache is full, how many tables are checked for one that can be dropped before it grows."""

Entries: TypeAlias = "array[int]"


class Codec:
    """Encodes entries of ``1 << order`` bits: narrow ones from a byte's low bits up, wide ones big endian."""

    def __init__(self, order: int) -> None:
        self.bits = 1 << order
        self.max = (1 << self.bits) - 1
        self._typecode = _TYPECODES[order]
        self._in_byte = 8 >> order

    def empty(self, count: int) -> Entries:
        return array(self._typecode, bytes(array(self._typecode).itemsize)) * count

    def repeat(self, value: int, count: int) -> Entries:
        return array(self._typecode, [value]) * count

    def decode(self, data: bytes | bytearray) -> Entries:
        if self._in_byte <= 1:
            entries = array(self._typecode)
            entries.frombytes(data)
            if _SWAPPED:
                entries.byteswap()
            return entries
        split = bytearray(len(data) * self._in_byte)
        for place in range(self._in_byte):
            shift = place * self.bits
            split[place :: self._in_byte] = data.translate(
                bytes(byte >> shift & self.max for byte in range(256))
            )
        return array(self._typecode, bytes(split))

    def encode(self, entries: Entries) -> bytes:
        """Return the entries as bytes; their number must fill whole bytes."""
        if self._in_byte <= 1:
            swapped = array(self._typecode, entries)
            if _SWAPPED:
                swapped.byteswap()
            return swapped.tobytes()
        data = entries.tobytes()
        joined = 0
        for place in range(self._in_byte):
            joined |= int.from_bytes(data[place :: self._in_byte], "little") << place * self.bits
        return joined.to_bytes(len(data) // self._in_byte, "little")

    def dirty_bytes(self, entries: Entries, first: int, last: int) -> tuple[int, bytes]:
        """Return (offset in the table in bytes, bytes) to write the entries ``first`` to ``last``."""
        first -= first % max(1, self._in_byte)
        last += max(1, self._in_byte) - last % max(1, self._in_byte)
        return first * self.bits // 8, self.encode(entries[first:last])


CODEC_64 = Codec(6)


@dataclass(eq=False, slots=True)
class Table:
    """One cluster of entries. Those that are changed but not written lie from ``first`` to ``last``."""

    offset: int
    entries: Entries
    first: int = sys.maxsize
    last: int = -1
    writing: int = field(default=0)
    """How many writes of this table are under way."""

    @property
    def is_dirty(self) -> bool:
        return self.last >= 0

    def touch(self, first: int, last: int) -> None:
        self.first = min(self.first, first)
        self.last = max(self.last, last)


@dataclass(frozen=True, slots=True)
class Write:
    """A pending write of a part of one table."""

    table: Table
    first: int
    last: int
    offset: int
    data: bytes


class TableCache:
    """A cache of tables of one kind by offset. It drops the least used clean ones first. Not thread-safe."""

    def __init__(self, file: ImageFile, codec: Codec, table_bytes: int, max_bytes: int) -> None:
        self._file = file
        self._codec = codec
        self._max_tables = max(4, max_bytes // table_bytes)
        self._read = bytearray(table_bytes)
        self._tables: OrderedDict[int, Table] = OrderedDict()
        self._dirty: dict[int, Table] = {}

    @property
    def dirty_is_much(self) -> bool:
        """Whether changed tables should be written, because too few can be dropped."""
        return len(self._dirty) * 2 > self._max_tables

    def get(self, offset: int) -> Table | None:
        """Return a table if it is in memory, else None."""
        table = self._tables.get(offset)
        if table is not None:
            self._tables.move_to_end(offset)
        return table

    def load(self, offset: int) -> Table:
        """Return a table; read it from the file if it is not in memory. Raises OSError."""
        table = self.get(offset)
        if table is None:
            self._file.read_into(offset, memoryview(self._read))
            table = self._insert(Table(offset, self._codec.decode(self._read)))
        return table

    def add(self, offset: int, entries: Entries, *, is_there: bool = False) -> Table:
        """Add a new table. All of it will be written, unless ``is_there``: the file has it already."""
        table = self._insert(Table(offset, entries))
        if not is_there:
            self.touch(table, 0, len(entries) - 1)
        return table

    def touch(self, table: Table, first: int, last: int) -> None:
        """Note that the entries ``first`` to ``last`` were changed."""
        table.touch(first, last)
        self._dirty[table.offset] = table

    def forget(self, offset: int) -> None:
        """Drop a table whose cluster is freed."""
        self._tables.pop(offset, None)
        self._dirty.pop(offset, None)

    def take_writes(self) -> list[Write]:
        """Return the pending writes by offset; ``written`` or ``not_written`` must follow."""
        writes = []
        for table in sorted(self._dirty.values(), key=lambda table: table.offset):
            start, data = self._codec.dirty_bytes(table.entries, table.first, table.last)
            writes.append(Write(table, table.first, table.last, table.offset + start, data))
            table.first, table.last = sys.maxsize, -1
            table.writing += 1
        self._dirty.clear()
        return writes

    def written(self, writes: Sequence[Write]) -> None:
        for write in writes:
            write.table.writing -= 1

    def not_written(self, writes: Sequence[Write]) -> None:
        """Note that these writes failed and must be repeated."""
        for write in writes:
            write.table.writing -= 1
            if self._tables.get(write.table.offset) is write.table:
                self.touch(write.table, write.first, write.last)

    def _insert(self, table: Table) -> Table:
        if len(self._tables) >= self._max_tables:
            for _ in range(min(_KEPT_UNSEEN, len(self._tables))):
                offset = next(iter(self._tables))
                oldest = self._tables[offset]
                if not oldest.is_dirty and not oldest.writing:
                    del self._tables[offset]
                    break
                self._tables.move_to_end(offset)
        self._tables[table.offset] = table
        return table

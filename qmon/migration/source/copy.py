"""One drive's way into records: what must be sent is marked, taken from the map, read and written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from qmon.block.dirty import MIN_GRANULARITY, DirtyFilter, DirtyMap
from qmon.block.extents import visible_extents
from qmon.block.flags import Flags
from qmon.block.node import Kind, Node
from qmon.errors import naming
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.stream import MAX_ZERO_LENGTH
from qmon.migration.wire.writer import RecordWriter

RUN_LIMIT = 16 << 20
"""Bytes whose marks are cleared at once: few, so that few are dirtied again before they are read."""

HOLE_LIMIT = 64 << 30
"""The same where a hole was seen to begin: a disk of many TiB that is nearly empty must not take minutes."""

ZERO_PIECE = 64 << 10
"""Bytes that are looked at together: where all are zero they travel as a length."""

_ZEROS = bytes(1 << 20)


def pieces(buffer: memoryview) -> Iterator[tuple[int, int, bool]]:
    """Split a buffer into the longest runs of (start, length, is zero), seen in steps of ZERO_PIECE."""
    start, was_zero = 0, False
    for position in range(0, len(buffer), ZERO_PIECE):
        is_zero = _ZEROS.startswith(buffer[position : position + ZERO_PIECE])
        if position and is_zero != was_zero:
            yield start, position - start, was_zero
            start = position
        was_zero = is_zero
    yield start, len(buffer) - start, was_zero


class Chunks:
    """A set of a disk's chunks: those of which something is known."""

    def __init__(self, size: int, granularity: int) -> None:
        self._granularity = granularity
        self._size = size
        self._flags = Flags(-(-size // granularity))

    def add(self, offset: int, length: int) -> None:
        """Add a range's chunks, but those that it covers only in part."""
        first = -(-offset // self._granularity)
        end = min(offset + length, self._size)
        self._flags.fill(first, self._flags.count if end == self._size else end // self._granularity, 1)

    def touch(self, offset: int, length: int) -> None:
        """Add all chunks of a range within the disk, and those that it covers only in part."""
        self._flags.fill(*self._touched(offset, length), 1)

    def forget(self, offset: int, length: int) -> None:
        """Take a range's chunks out, and those that it covers only in part."""
        self._flags.fill(*self._touched(offset, length), 0)

    def unknown(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a range, as (offset, length) in bytes, whose chunks are not in the set."""
        position, last = self._touched(offset, length)
        while (first := self._flags.find(0, position, last)) >= 0:
            position = self._flags.find(1, first, last)
            if position < 0:
                position = last
            start = max(first * self._granularity, offset)
            yield start, min(position * self._granularity, offset + length) - start

    def _touched(self, offset: int, length: int) -> tuple[int, int]:
        return offset // self._granularity, -(-(offset + length) // self._granularity)


class Outlet(Protocol):
    """Where records go."""

    @property
    def writer(self) -> RecordWriter: ...

    def slice_size(self) -> int:
        """Bytes to gather before they are sent."""

    def send(self) -> None:
        """Send what the writer has gathered, and empty it. Raises what ends the migration."""

    def pulse(self) -> None:
        """Have the destination hear something now and then, where there may be nothing to send for long.

        Raises what ends the migration.
        """


class DriveCopy:
    """A drive that travels in full: its dirty map, and the filter that marks it."""

    hears_of_zeros = True
    """Whether zeros need no sending where the destination has said that it has them."""

    def __init__(self, index: int, drive: MigratingDrive) -> None:
        self.index = index
        self.drive = drive
        self.dirty = self._new_map(drive.size)
        self.total = drive.size
        """Bytes that are to be looked at, were nothing written meanwhile."""
        granularity = self.dirty.granularity if self.hears_of_zeros else max(1, drive.size)
        self.known_zeros = Chunks(drive.size, granularity)
        """Which of the destination's chunks are known to read as zero."""
        self._filter: DirtyFilter | None = None
        self._taken = 0
        self._data = (0, -1)
        """Where data were last seen to begin and to end in this round, in bytes; they may be zeros."""

    @staticmethod
    def _new_map(size: int) -> DirtyMap:
        """With everything marked: what is a hole and needs no sending is found out when its turn comes.

        A scan before the first byte would keep a large disk waiting.
        """
        return DirtyMap(size, dirty=True)

    @property
    def remaining(self) -> int:
        """Bytes that are not written down yet, in any record."""
        return min(self.dirty.dirty_bytes + self._taken, self.drive.size)

    def install(self) -> None:
        """Put the filter over the node; the gate is closed and drained."""
        self._filter = self.drive.stack.push(lambda node: DirtyFilter(node, self.dirty))

    def survey(self, pulse: Callable[[], None]) -> None:
        """Find out what must be sent, where that is done beforehand; ``pulse`` is called now and then.

        Raises QmonError naming what can't be read, and what ``pulse`` raises.
        """

    def uninstall(self) -> None:
        """Take the filter away; requests that still go through it harm nothing."""
        if self._filter is not None:
            self.drive.stack.pop(self._filter)
            self._filter = None

    @property
    def _below(self) -> Node:
        """What lies below the filter, which is there."""
        assert self._filter is not None
        return self._filter.child

    def send_dirty(self, outlet: Outlet) -> None:
        """Write down everything dirty, once through the disk. Raises QmonError naming what can't be read."""
        position, limit = 0, RUN_LIMIT
        self._data = (0, -1)
        while run := self.dirty.take(position, limit):
            position = run[0] + run[1]
            self._taken = run[1]
            limit = max(RUN_LIMIT, self._send_taken(*run, outlet) - position)

    def _send_taken(self, offset: int, length: int, outlet: Outlet) -> int:
        """Send what was taken from the map; return where the last hole that was seen ends, 0 without one."""
        return self._send_run(offset, length, outlet)

    def _naming(self, what: str, offset: int) -> AbstractContextManager[None]:
        return naming(f"drive '{self.drive.id}': {what} at {offset} failed")

    def _send_run(self, offset: int, run_length: int, outlet: Outlet) -> int:
        """Send a range; return where the last hole that was seen ends, 0 without one."""
        hole_end = 0
        node, writer = self._below, outlet.writer
        end = offset + run_length
        while offset < end:
            if writer.free() < min(ZERO_PIECE, end - offset) or writer.size >= outlet.slice_size():
                outlet.send()
            count = min(end - offset, writer.free(), outlet.slice_size())
            data, zeros = self._data_ahead(offset), 0
            # What is more than can be read at once may be a hole; it is asked about before it is read, since
            # a file system may take for data what lies in its cache. To ask at every step would take a time
            # that grows with the square of stored zeros: a tmpfs looks at each page up to where they end.
            if not data and offset + count < end:
                with self._naming("looking for holes", offset):
                    zeros = self._zeros_ahead(node, offset)
                data = self._data_ahead(offset)
            if zeros:
                hole_end = offset + zeros
                count = min(zeros, end - offset)
                self._zeros(offset, count, outlet)
            else:
                count = min(count, data or count)  # not into the hole behind it
                buffer = writer.room(count)
                with self._naming(f"read of {count} bytes", offset):
                    node.read_into(offset, buffer)
                if _ZEROS.startswith(buffer):
                    writer.take_back(count)
                    self._zeros(offset, count, outlet)
                else:
                    self._pieces(offset, buffer, writer)
            offset += count
            self._taken -= count
        return hole_end

    def _data_ahead(self, offset: int) -> int:
        """How many bytes from ``offset`` on are known as data."""
        data, end = self._data
        return end - offset if data <= offset < end else 0

    def _zeros(self, offset: int, length: int, outlet: Outlet) -> None:
        """Write down what of a range of zeros may hold something else at the destination."""
        outlet.pulse()
        writer = outlet.writer
        for start, count in self.known_zeros.unknown(offset, length):
            for piece in range(start, start + count, MAX_ZERO_LENGTH):
                if not writer.free():
                    outlet.send()
                writer.zero(self.index, piece, min(MAX_ZERO_LENGTH, start + count - piece))

    def _zeros_ahead(self, node: Node, offset: int) -> int:
        """How many bytes from ``offset`` on are known to read as zero, at most HOLE_LIMIT.

        Notes where the data behind them lie, for what is read next to end there: only a guess by then, since
        the guest writes, but where they end one asks again. Holes between them that are too small to be sent
        as such count as data, else a disk in splinters would be asked about each of them.
        """
        start = offset
        data = data_end = -1
        for extent in visible_extents(node, offset, min(node.size - offset, HOLE_LIMIT)):
            if data < 0 and extent.kind is Kind.ZERO:
                offset = extent.end
                continue
            if extent.kind is Kind.ZERO and extent.length >= ZERO_PIECE:
                break
            data = extent.offset if data < 0 else data
            data_end = extent.end
            if data_end - data >= RUN_LIMIT:
                break
        # A file may end within a sector, and a record may not.
        self._data = (data, -(-data_end // MIN_GRANULARITY) * MIN_GRANULARITY)
        return offset - start

    def _pieces(self, offset: int, buffer: memoryview, writer: RecordWriter) -> None:
        for start, count, is_zero in pieces(buffer):
            if is_zero:
                for zero_start, zero_count in self.known_zeros.unknown(offset + start, count):
                    writer.zero(self.index, zero_start, zero_count)
            else:
                self.known_zeros.forget(offset + start, count)
                writer.data(self.index, offset + start, buffer[start : start + count])

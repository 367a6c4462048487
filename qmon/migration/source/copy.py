"""Copies one drive into records: takes dirty ranges from the map, reads them, and writes the records."""

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
"""Bytes whose marks are cleared at once. A small number: guests may dirty them again before they are read."""

HOLE_LIMIT = 64 << 30
"""The same within a hole: a nearly empty disk of many TiB must not take minutes."""

ZERO_PIECE = 64 << 10
"""The unit in which zeros are detected. Zeros are sent as a length."""

_ZEROS = bytes(1 << 20)


def pieces(buffer: memoryview) -> Iterator[tuple[int, int, bool]]:
    """Yield the runs of a buffer as (start, length, is_zero), detected in steps of ZERO_PIECE."""
    start, was_zero = 0, False
    for position in range(0, len(buffer), ZERO_PIECE):
        is_zero = _ZEROS.startswith(buffer[position : position + ZERO_PIECE])
        if position and is_zero != was_zero:
            yield start, position - start, was_zero
            start = position
        was_zero = is_zero
    yield start, len(buffer) - start, was_zero


class Chunks:
    """A set of chunks of a disk."""

    def __init__(self, size: int, granularity: int) -> None:
        self._granularity = granularity
        self._size = size
        self._flags = Flags(-(-size // granularity))

    def add(self, offset: int, length: int) -> None:
        """Add the chunks that lie fully in a range."""
        first = -(-offset // self._granularity)
        end = min(offset + length, self._size)
        self._flags.fill(first, self._flags.count if end == self._size else end // self._granularity, 1)

    def touch(self, offset: int, length: int) -> None:
        """Add the chunks that a range touches, within the disk."""
        self._flags.fill(*self._touched(offset, length), 1)

    def forget(self, offset: int, length: int) -> None:
        """Remove the chunks that a range touches."""
        self._flags.fill(*self._touched(offset, length), 0)

    def unknown(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield as (offset, length) in bytes the parts of a range whose chunks are not in the set."""
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
    """The receiver of records."""

    @property
    def writer(self) -> RecordWriter: ...

    def slice_size(self) -> int:
        """Bytes to collect before they are sent."""

    def send(self) -> None:
        """Send the writer's records and empty it. Raises the error that ends the migration."""

    def pulse(self) -> None:
        """Send a sign of life if none was sent for some time; call it often when there is nothing to send.

        Raises the error that ends the migration.
        """


class DriveCopy:
    """The full copy of a drive, with its dirty map and the filter that marks writes in it."""

    hears_of_zeros = True
    """Whether zeros are not sent if the destination has reported that it has zeros there."""

    def __init__(self, index: int, drive: MigratingDrive) -> None:
        self.index = index
        self.drive = drive
        self.dirty = self._new_map(drive.size)
        self.total = drive.size
        """Bytes to copy if guests write nothing meanwhile."""
        granularity = self.dirty.granularity if self.hears_of_zeros else max(1, drive.size)
        self.known_zeros = Chunks(drive.size, granularity)
        """The chunks that are known to read as zeros at the destination."""
        self.sent = 0
        """Bytes of the drive's data in records so far."""
        self._filter: DirtyFilter | None = None
        self._taken = 0
        self._data = (0, -1)
        """Start and end in bytes of the last data extent that this round has found; it may contain zeros."""

    @staticmethod
    def _new_map(size: int) -> DirtyMap:
        """Return a map with everything marked. Holes that need not be sent are found during the copy.

        A scan before the copy would delay a large disk.
        """
        return DirtyMap(size, dirty=True)

    @property
    def remaining(self) -> int:
        """Return the bytes that are not yet in a record."""
        return min(self.dirty.dirty_bytes + self._taken, self.drive.size)

    @property
    def passed(self) -> int:
        """Return the bytes that the copy has dealt with so far: sent, or left out because they are zeros."""
        return self.dirty.taken_bytes - self._taken

    def install(self) -> None:
        """Put the filter on the drive's stack. The gate must be closed and drained."""
        self._filter = self.drive.stack.push(lambda node: DirtyFilter(node, self.dirty))

    def survey(self, pulse: Callable[[], None]) -> None:
        """Mark what must be sent, if the kind of copy does so before it starts; calls ``pulse`` regularly.

        Raises QmonError that names what can't be read, and what ``pulse`` raises.
        """

    def uninstall(self) -> None:
        """Remove the filter. Requests that are still inside it do no harm."""
        if self._filter is not None:
            self.drive.stack.pop(self._filter)
            self._filter = None

    @property
    def _below(self) -> Node:
        """The node below the filter, which must be installed."""
        assert self._filter is not None
        return self._filter.child

    def send_dirty(self, outlet: Outlet) -> None:
        """Send everything dirty, once through the disk. Raises QmonError that names what can't be read."""
        position, limit = 0, RUN_LIMIT
        self._data = (0, -1)
        while run := self.dirty.take(position, limit):
            position = run[0] + run[1]
            self._taken = run[1]
            limit = max(RUN_LIMIT, self._send_taken(*run, outlet) - position)

    def _send_taken(self, offset: int, length: int, outlet: Outlet) -> int:
        """Send a range taken from the map; return the end of the last hole found, 0 without one."""
        return self._send_run(offset, length, outlet)

    def _naming(self, what: str, offset: int) -> AbstractContextManager[None]:
        return naming(f"drive '{self.drive.id}': {what} at {offset} failed")

    def _send_run(self, offset: int, run_length: int, outlet: Outlet) -> int:
        """Send a range; return the end of the last hole found, 0 without one."""
        hole_end = 0
        node, writer = self._below, outlet.writer
        end = offset + run_length
        while offset < end:
            if writer.free() < min(ZERO_PIECE, end - offset) or writer.size >= outlet.slice_size():
                outlet.send()
            count = min(end - offset, writer.free(), outlet.slice_size())
            data, zeros = self._data_ahead(offset), 0
            # A range too long for one read may be a hole. Ask before reading: afterwards a file system may
            # report cached pages as data. Don't ask at every step: tmpfs checks each page up to the end of
            # the data, so the time would grow with the square of the length of stored zeros.
            if not data and offset + count < end:
                with self._naming("looking for holes", offset):
                    zeros = self._zeros_ahead(node, offset)
                data = self._data_ahead(offset)
            if zeros:
                hole_end = offset + zeros
                count = min(zeros, end - offset)
                self._zeros(offset, count, outlet)
            else:
                count = min(count, data or count)  # stop before the next hole
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
        """Return how many bytes from ``offset`` on are known to be data."""
        data, end = self._data
        return end - offset if data <= offset < end else 0

    def _zeros(self, offset: int, length: int, outlet: Outlet) -> None:
        """Write a record for those zeros of a range that the destination may not have yet."""
        outlet.pulse()
        writer = outlet.writer
        for start, count in self.known_zeros.unknown(offset, length):
            for piece in range(start, start + count, MAX_ZERO_LENGTH):
                if not writer.free():
                    outlet.send()
                writer.zero(self.index, piece, min(MAX_ZERO_LENGTH, start + count - piece))

    def _zeros_ahead(self, node: Node, offset: int) -> int:
        """Return how many bytes from ``offset`` on are known to read as zeros, at most HOLE_LIMIT.

        Notes the data extent after them, so that the next read ends with it. A guest may change this extent
        before it is read; that is harmless, since its end only says when to ask again. Small holes count as
        data, because asking about each hole of a fragmented disk would be slow.
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
        # A file may end within a sector, a record must not.
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
                self.sent += count

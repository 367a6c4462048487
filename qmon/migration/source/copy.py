"""Copies one drive into records: takes dirty ranges from the map, reads them, and writes the records."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

from qmon.block.dirty import MIN_GRANULARITY, DirtyFilter, DirtyMap
from qmon.block.extents import visible_extents
from qmon.block.flags import Flags
from qmon.block.node import Filter, Kind, Node
from qmon.errors import QmonError, naming, reason
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.stream import MAX_ZERO_LENGTH, REGION
from qmon.migration.wire.writer import RecordWriter

RUN_LIMIT = 16 << 20
"""Bytes whose marks are cleared at once. A small number: guests may dirty them again before they are read."""

HOLE_LIMIT = 64 << 30
"""The same within a hole: a nearly empty disk of many TiB must not take minutes."""

ZERO_PIECE = 64 << 10
"""The unit in which zeros are detected. Zeros are sent as a length."""

GRANT_SECONDS = 0.05
"""How long data is sent without asking the outlet again."""

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

    @property
    def is_wanted(self) -> bool:
        """Whether ``allowance`` should be called at once: another thread waits for it."""

    def allowance(self) -> int:
        """Wait until data may be sent; return how many bytes, before the next call.

        Raises the error that ends the migration.
        """

    def send(self) -> None:
        """Send the writer's records and empty it. Raises the error that ends the migration."""

    def push(self) -> None:
        """Do ``send`` when the limit allows it."""

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
        self._filter: Filter | None = None
        self._taken = 0
        self.under_way = (0, 0)
        """Start and end in bytes of the range whose marks were taken last; it may be read and not yet sent.

        So other data that is sent for it meanwhile may be overwritten by older data.
        """
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

    def start_clean(self) -> None:
        """Before ``install``: mark nothing yet, because the destination has most of it."""
        self.dirty = DirtyMap(self.drive.size)

    def note_compared(self, offset: int, length: int) -> None:
        """A range was compared, and both sides hold the same."""

    def install(self) -> None:
        """Put the filter on the drive's stack. The gate must be closed and drained."""
        self._filter = self.drive.stack.push(lambda node: DirtyFilter(node, self.dirty))

    def has_filter(self, kind: type[Filter]) -> bool:
        """Whether the filter on the stack is of this kind."""
        return isinstance(self._filter, kind)

    def exchange(self, make: Callable[[Node], Filter]) -> None:
        """Put another filter in the place of the present one. The gate must be closed and drained."""
        assert self._filter is not None
        self.drive.stack.pop(self._filter)
        self._filter = self.drive.stack.push(make)

    def mark_only(self) -> None:
        """Put the filter on the stack that only marks. The gate must be closed and drained."""
        self.exchange(lambda node: DirtyFilter(node, self.dirty))

    def may_send_apart(self, offset: int, length: int) -> bool:
        """Whether a guest's change may be sent now by itself. For the migration's thread."""
        return True

    def send_change(self, offset: int, data: memoryview, outlet: Outlet) -> None:
        """Write the records of what a guest has written."""
        writer = outlet.writer
        self.known_zeros.forget(offset, len(data))
        start = 0
        while start < len(data):
            count = min(len(data) - start, REGION - (offset + start) % REGION)
            if writer.is_full:
                outlet.send()
            writer.data(self.index, offset + start, data[start : start + count])
            start += count
        self.sent += len(data)

    def send_zeros(self, offset: int, length: int, outlet: Outlet) -> None:
        """Write the records of zeros that the destination may not have yet."""
        self._zeros(offset, length, outlet)

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
    def below(self) -> Node:
        """The node below the filter, which must be installed."""
        assert self._filter is not None
        return self._filter.child

    def send_dirty(self, outlet: Outlet) -> None:
        """Send everything dirty, once through the disk. Raises QmonError that names what can't be read."""
        position, limit = 0, RUN_LIMIT
        self._data = (0, -1)
        while run := self.dirty.take(position, limit):
            position = run[0] + run[1]
            self._taken, self.under_way = run[1], (run[0], position)
            try:
                limit = max(RUN_LIMIT, self._send_taken(*run, outlet) - position)
            except BaseException:
                self._mark_unsent(*run)
                raise
        self.under_way = (0, 0)

    def _mark_unsent(self, offset: int, length: int) -> None:
        """Mark again what is in no record of a range that was taken from the map."""
        left, self._taken = self._taken, 0
        self.under_way = (0, 0)
        self.dirty.mark(offset + length - left, left)

    def _send_taken(self, offset: int, length: int, outlet: Outlet) -> int:
        """Send a range taken from the map; return the end of the last hole found, 0 without one."""
        return self._send_run(offset, length, outlet)

    def naming(self, what: str, offset: int) -> AbstractContextManager[None]:
        return naming(f"drive '{self.drive.id}': {what} at {offset} failed")

    def _send_run(self, offset: int, run_length: int, outlet: Outlet) -> int:
        """Send a range; return the end of the last hole found, 0 without one."""
        hole_end = 0
        end = offset + run_length
        while offset < end:
            granted = outlet.allowance()
            data, zeros = self._data_ahead(offset), 0
            # A range too long for one read may be a hole. Ask before reading: afterwards a file system may
            # report cached pages as data. Don't ask at every step: tmpfs checks each page up to the end of
            # the data, so the time would grow with the square of the length of stored zeros.
            if not data and offset + min(granted, REGION) < end:
                with self.naming("looking for holes", offset):
                    zeros = self._zeros_ahead(self.below, offset)
                data = self._data_ahead(offset)
            if zeros:
                hole_end = offset + zeros
                count = min(zeros, end - offset)
                outlet.pulse()
                self._zeros(offset, count, outlet)
                offset += count
                self._taken -= count
            else:
                data = data or min(granted, REGION)  # stop before the next hole
                offset = self._send_data(offset, min(end, offset + min(granted, data)), granted, outlet)
        return hole_end

    def _send_data(self, offset: int, end: int, granted: int, outlet: Outlet) -> int:
        """Read and send a range until ``end`` or GRANT_SECONDS have passed; return where it has stopped.

        Small ranges are sent together, as far as ``granted``. Most of a copy's time goes into this loop: it
        does nothing that can be done less often.
        """
        writer, send, read_into = outlet.writer, outlet.send, self.below.read_into
        until = time.monotonic() + GRANT_SECONDS
        while True:  # at least one record, however often others want the outlet
            count = min(end - offset, REGION - offset % REGION)
            if writer.used + count > REGION or writer.is_full:
                send()
                writer.used = 0  # also where the data went elsewhere
            buffer = writer.payload[writer.used : writer.used + count]
            try:
                read_into(offset, buffer)
            except OSError as error:
                raise self._read_error(offset, count, error) from error
            if b"\0" in bytes(buffer[::ZERO_PIECE]):  # else no piece is all zeros
                self._pieces(offset, buffer, outlet)
            else:
                self.known_zeros.forget(offset, count)
                writer.data(self.index, offset, buffer)
                self.sent += count
            writer.used += count
            if writer.used == REGION or writer.size >= granted:
                send()
                writer.used = 0
            offset += count
            self._taken -= count
            if offset >= end or time.monotonic() >= until or outlet.is_wanted:
                return offset

    def _read_error(self, offset: int, length: int, error: OSError) -> QmonError:
        return QmonError(
            f"drive '{self.drive.id}': read of {length} bytes at {offset} failed: {reason(error)}"
        )

    def _data_ahead(self, offset: int) -> int:
        """Return how many bytes from ``offset`` on are known to be data."""
        data, end = self._data
        return end - offset if data <= offset < end else 0

    def _zeros(self, offset: int, length: int, outlet: Outlet) -> None:
        """Write a record for those zeros of a range that the destination may not have yet."""
        writer = outlet.writer
        for start, count in self.known_zeros.unknown(offset, length):
            for piece in range(start, start + count, MAX_ZERO_LENGTH):
                if writer.is_full:
                    outlet.push()
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

    def _pieces(self, offset: int, buffer: memoryview, outlet: Outlet) -> None:
        """Write the records of a buffer that may contain zeros."""
        writer = outlet.writer
        for start, count, is_zero in pieces(buffer):
            if is_zero:
                self._zeros(offset + start, count, outlet)
            else:
                self.known_zeros.forget(offset + start, count)
                writer.data(self.index, offset + start, buffer[start : start + count])
                self.sent += count

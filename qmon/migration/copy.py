"""One drive's way into records: what must be sent is marked, taken from the map, read and written down."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qmon.block.dirty import DirtyFilter, DirtyMap
from qmon.block.node import Kind, Node
from qmon.migration.drive import MigratingDrive
from qmon.migration.stream import MAX_ZERO_LENGTH, RecordWriter

RUN_LIMIT = 16 << 20
"""Bytes whose marks are cleared at once: few to be dirtied again before they are read, many for holes."""

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


class KnownZeros:
    """Which of the destination's chunks are known to read as zero; one byte a chunk."""

    def __init__(self, size: int, granularity: int) -> None:
        self._granularity = granularity
        self._size = size
        self._flags = bytearray(-(-size // granularity))

    def add(self, offset: int, length: int) -> None:
        """Note a range; chunks that it covers only in part stay unknown."""
        first = -(-offset // self._granularity)
        end = min(offset + length, self._size)
        last = len(self._flags) if end == self._size else end // self._granularity
        if first < last:
            self._flags[first:last] = b"\1" * (last - first)

    def unknown(self, offset: int, length: int) -> Iterator[tuple[int, int]]:
        """Yield the parts of a range, as (offset, length) in bytes, that may hold something else."""
        position = offset // self._granularity
        last = -(-(offset + length) // self._granularity)
        while (first := self._flags.find(0, position, last)) >= 0:
            position = self._flags.find(1, first, last)
            if position < 0:
                position = last
            start = first * self._granularity
            yield start, position * self._granularity - start


class DriveCopy:
    """A drive that travels: its dirty map, and its node below the filter."""

    def __init__(self, index: int, drive: MigratingDrive) -> None:
        self.index = index
        self.drive = drive
        self.dirty = DirtyMap(drive.size)
        self.known_zeros = KnownZeros(drive.size, self.dirty.granularity)
        self._below: Node | None = None
        self._taken = 0

    @property
    def remaining(self) -> int:
        """Bytes that are not written down yet, in any record."""
        return min(self.dirty.dirty_bytes + self._taken, self.drive.size)

    def install(self) -> None:
        """Put the filter over the node; the gate is closed and drained."""
        self._below = self.drive.node
        self.drive.node = DirtyFilter(self._below, self.dirty)

    def uninstall(self) -> None:
        """Take the filter away; requests that still go through it harm nothing."""
        if self._below is not None:
            self.drive.node = self._below
            self._below = None

    def mark_all(self, check: Callable[[], None]) -> None:
        """Mark what must travel: what reads as data, and what reads as zero where the destination may not.

        Writes go on meanwhile, so marks are only ever set. ``check`` is called often and may raise.
        """
        assert self._below is not None
        for extent in self._below.extents(0, self.drive.size):
            check()
            if extent.kind is Kind.ZERO:
                for offset, length in self.known_zeros.unknown(extent.offset, extent.length):
                    self.dirty.mark(offset, min(length, self.drive.size - offset))
            else:
                self.dirty.mark(extent.offset, extent.length)
        self.known_zeros = KnownZeros(0, self.dirty.granularity)  # not needed again, and up to 16 MiB

    def send_dirty(
        self, writer: RecordWriter, send: Callable[[], None], slice_size: Callable[[], int]
    ) -> None:
        """Write down everything dirty, once through the disk; ``send`` empties the writer.

        It is called whenever ``slice_size()`` bytes have been gathered or the writer is full.
        """
        position = 0
        while run := self.dirty.take(position, RUN_LIMIT):
            position = run[0] + run[1]
            self._taken = run[1]
            self._send_run(*run, writer, send, slice_size)

    def _send_run(
        self,
        offset: int,
        length: int,
        writer: RecordWriter,
        send: Callable[[], None],
        slice_size: Callable[[], int],
    ) -> None:
        node = self._below
        assert node is not None
        for extent in node.extents(offset, length):
            start = extent.offset
            while start < extent.end:
                if writer.free() < min(ZERO_PIECE, extent.end - start) or writer.size >= slice_size():
                    send()
                if extent.kind is Kind.ZERO:
                    count = min(extent.end - start, MAX_ZERO_LENGTH)
                    writer.zero(self.index, start, count)
                else:
                    count = min(extent.end - start, writer.free(), slice_size())
                    self._send_data(node, start, count, writer)
                start += count
                self._taken -= count

    def _send_data(self, node: Node, offset: int, length: int, writer: RecordWriter) -> None:
        buffer = writer.room(length)
        node.read_into(offset, buffer)
        for start, count, is_zero in pieces(buffer):
            if is_zero:
                writer.zero(self.index, offset + start, count)
            else:
                writer.data(self.index, offset + start, buffer[start : start + count])

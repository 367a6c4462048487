"""A node: an object that holds a disk's bytes, with one small interface.

A format sits on a file, a filter on a format, a drive on top. All calls block, and may come from several
threads at once; offsets and lengths are in bytes, and lie within ``size`` (the caller checks).
Failures are OSError with the errno that a guest should see.
"""

from __future__ import annotations

import abc
import enum
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple, Protocol

from qmon.block.transfers import Start, Transfer, starter

Buffer = bytes | bytearray | memoryview

ReadNow = Callable[[int, memoryview], bool]
"""``read_into`` for a loop that must not wait: returns whether the whole buffer was filled.

If not, call ``read_into``, which also tells a failure.
"""
WriteNow = Callable[[int, Buffer], bool]
"""``write`` in the same way. After False a part of the data may be written."""


class Kind(enum.Enum):
    """What an extent holds."""

    DATA = "data"
    ZERO = "zero"
    """Known to read as zeros without reading it."""
    BACKING = "backing"
    """Not allocated in this node: its bytes are the backing node's, or zeros without one."""


class Extent(NamedTuple):
    """A run of bytes in one state."""

    offset: int
    length: int
    kind: Kind

    @property
    def end(self) -> int:
        return self.offset + self.length


class Node(Protocol):
    """The interface through which the copy engine, the NBD server and filters use a disk."""

    @property
    def size(self) -> int:
        """The virtual size in bytes, a multiple of 512."""

    @property
    def read_only(self) -> bool:
        """Whether writes are refused."""

    @property
    def backing(self) -> Node | None:
        """The node that has the bytes of BACKING extents; beyond its end they are zeros."""

    @property
    def read_now(self) -> ReadNow | None:
        """The way to read small pieces without waiting, if there is one now. For one batch of requests."""

    @property
    def write_now(self) -> WriteNow | None:
        """The way to write small pieces without waiting, if there is one now. For one batch of requests."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill the whole buffer from ``offset``."""

    def write(self, offset: int, data: Buffer) -> None:
        """Write all of ``data`` at ``offset``."""

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        """Make a range read as zeros; with ``unmap`` its storage may be freed."""

    def discard(self, offset: int, length: int) -> None:
        """Declare a range's content unneeded. Afterwards it reads as zeros or as before."""

    def flush(self) -> None:
        """Return when all earlier writes are on stable storage."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """Yield the extents of a range in order and without gaps; neighbours may be of one kind."""

    def resize(self, size: int) -> None:
        """Change the virtual size; a new part reads as zeros."""

    def close(self) -> None:
        """Close the files and release their locks; a second call does nothing."""


class Filter:
    """A node that passes every call to ``child``; filters derive from it and change one thing.

    ``read_now``, ``write_now`` and ``start`` pass nothing: a filter that changes the slow way must change
    these, too.
    """

    def __init__(self, child: Node) -> None:
        self.child = child

    @property
    def size(self) -> int:
        return self.child.size

    @property
    def read_only(self) -> bool:
        return self.child.read_only

    @property
    def backing(self) -> Node | None:
        return self.child.backing

    @property
    def read_now(self) -> ReadNow | None:
        return None

    @property
    def write_now(self) -> WriteNow | None:
        return None

    @property
    def start(self) -> Start | None:
        return None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.child.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self.child.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self.child.zero(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self.child.discard(offset, length)

    def flush(self) -> None:
        self.child.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self.child.extents(offset, length)

    def resize(self, size: int) -> None:
        self.child.resize(size)

    def close(self) -> None:
        self.child.close()


class WriteFilter(Filter):
    """A filter that does not change how its child is read."""

    @property
    def read_now(self) -> ReadNow | None:
        return self.child.read_now


class NotingFilter(WriteFilter, abc.ABC):
    """A filter that notes every range that is changed: after the change, also if it failed."""

    @abc.abstractmethod
    def note(self, offset: int, length: int, *, is_data: bool) -> None:
        """Note a range; ``is_data`` if it was written, and not made to read as zeros or discarded."""

    @property
    def write_now(self) -> WriteNow | None:
        return self._write_now if self.child.write_now else None

    @property
    def start(self) -> Start | None:
        return self._start if starter(self.child) else None

    def _start(self, transfers: Sequence[Transfer]) -> bool:
        start = starter(self.child)
        if start is None:
            return False
        writes = [each for each in transfers if each.is_write]
        for each in writes:
            each.notes = (self.note, *each.notes)
        if start(transfers):
            return True
        for each in writes:
            each.notes = each.notes[1:]
        return False

    def _write_now(self, offset: int, data: Buffer) -> bool:
        write = self.child.write_now
        try:
            return write is not None and write(offset, data)
        finally:
            self.note(offset, len(data), is_data=True)

    def write(self, offset: int, data: Buffer) -> None:
        try:
            self.child.write(offset, data)
        finally:
            self.note(offset, len(data), is_data=True)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        try:
            self.child.zero(offset, length, unmap=unmap)
        finally:
            self.note(offset, length, is_data=False)

    def discard(self, offset: int, length: int) -> None:
        try:
            self.child.discard(offset, length)
        finally:
            self.note(offset, length, is_data=False)

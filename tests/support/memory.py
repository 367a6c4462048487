"""A disk in memory whose calls can be made to fail or to wait: faults that no real image gives on demand."""

from __future__ import annotations

import errno
import os
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.image import FileIdentity, ImageNode
from qmon.block.node import Buffer, Extent, Kind, Node, ReadNow, WriteNow
from qmon.block.recent import RecentWrites
from qmon.block.stack import NodeStack

SECTOR = 512


class MemoryNode:
    """A Node over a bytearray; ``failures`` maps a call's name to the errno it fails with."""

    def __init__(self, size: int, *, read_only: bool = False) -> None:
        self.data = bytearray(size)
        self.failures: dict[str, int] = {}
        self.calls: Counter[str] = Counter()
        self.backing: Node | None = None
        self._read_only = read_only

    @property
    def size(self) -> int:
        return len(self.data)

    @property
    def read_only(self) -> bool:
        return self._read_only

    read_now: ReadNow | None = None
    write_now: WriteNow | None = None

    def _enter(self, call: str, offset: int = 0, length: int = 0) -> None:
        self.calls[call] += 1
        if call in self.failures:
            raise OSError(self.failures[call], os.strerror(self.failures[call]))
        if offset < 0 or offset + length > self.size:
            raise AssertionError(f"{call} of {length} bytes at {offset} reached the node")

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._enter("read", offset, len(buffer))
        buffer[:] = self.data[offset : offset + len(buffer)]

    def write(self, offset: int, data: Buffer) -> None:
        self._enter("write", offset, len(data))
        if self._read_only:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        self.data[offset : offset + len(data)] = data

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._enter("zero-unmap" if unmap else "zero", offset, length)
        self.data[offset : offset + length] = bytes(length)

    def discard(self, offset: int, length: int) -> None:
        self._enter("discard", offset, length)
        self.data[offset : offset + length] = bytes(length)

    def flush(self) -> None:
        self._enter("flush")

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        """One extent for each sector, so that joining them is the server's work."""
        self._enter("extents", offset, length)
        end = offset + length
        while offset < end:
            stop = min(end, offset - offset % SECTOR + SECTOR)
            empty = Kind.BACKING if self.backing is not None else Kind.ZERO
            yield Extent(offset, stop - offset, Kind.DATA if any(self.data[offset:stop]) else empty)
            offset = stop

    def resize(self, size: int) -> None:
        self.data = self.data[:size] + bytearray(max(0, size - self.size))

    def close(self) -> None:
        self._enter("close")


class MemoryDisk:
    """A drive of one MemoryNode and a gate."""

    def __init__(self, size: int = 1 << 20, *, read_only: bool = False) -> None:
        self.memory = MemoryNode(size, read_only=read_only)
        self.gate = Gate()
        self.accounts = Accounts()

    @property
    def node(self) -> MemoryNode:
        return self.memory


class NodeDrive:
    """A drive of a node, as the source of a migration sees it."""

    id = "d0"
    read_only = False
    is_flushed_on_leaving = False

    def __init__(self, node: Node, image: str) -> None:
        self.image = image
        self.gate = Gate()
        self.recent = RecentWrites()
        self.stack = NodeStack(node)
        self.accounts = Accounts()

    def sparing_page_cache(self) -> AbstractContextManager[None]:
        return nullcontext()

    def forget_cached(self) -> None:
        """It has no file."""

    @property
    def guest(self) -> NodeDrive:
        return self

    @property
    def node(self) -> Node:
        return self.stack.top

    @property
    def size(self) -> int:
        return self.node.size

    @property
    def backing_size(self) -> int | None:
        return None if self.node.backing is None else self.node.backing.size

    def check_name(self) -> None:
        """It has none that could lead elsewhere."""

    def leave_to_backing(self, offset: int, length: int) -> None:
        raise AssertionError("only a destination empties overlays")

    def open_to_compare(self) -> ImageNode:
        raise AssertionError("a disk that is copied is not compared")

    def identify(self) -> tuple[FileIdentity, ...]:
        return ()

    def probe(self) -> None:
        """Its size never changes."""

    def open_to_fill(self) -> None:
        raise AssertionError("only a destination fills drives")

    def end_filling(self) -> None:
        """It is not read-only."""

    def activate(self) -> None:
        """It is always open."""

    def deactivate(self, *, flush: bool = True) -> None:
        """It is always open."""

    def abandon(self) -> None:
        """It is always open."""


class MemoryDrive(NodeDrive):
    """A drive of a node in memory."""

    def __init__(self, content: bytes) -> None:
        self.memory = MemoryNode(len(content))
        self.memory.data[:] = content
        super().__init__(self.memory, "d0.img")


def data_threads() -> list[str]:
    """The names of the server's threads that are alive."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("nbd")]

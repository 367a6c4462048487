"""A qcow2 image as a node."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import NoReturn

from qmon.block.file import FileNode
from qmon.block.locks import DISK, LockSet, Permission
from qmon.block.node import Buffer, Extent, Node
from qmon.block.qcow2.core import Core
from qmon.block.qcow2.header import Header, Qcow2Error

LOCKS = DISK.with_used(Permission.RESIZE)
"""A running guest's qcow2 disk: bytes 100, 101, 103, 201 and 203; its file grows as it is written."""


class Qcow2Node:
    """An image with its tables; what it does not hold itself is read from ``backing``.

    With ``locks`` they are taken on opening. Raises OSError, Qcow2Error for what can't be opened.
    """

    format = "qcow2"

    def __init__(
        self, path: str, *, read_only: bool = False, locks: LockSet | None = None, is_backing: bool = False
    ) -> None:
        if not read_only:
            raise Qcow2Error("qcow2 images can be opened only for reading yet: add readonly=on")
        self._file = FileNode(path, read_only=read_only, locks=locks)
        try:
            self._core = Core(self._file, is_backing=is_backing)
        except BaseException:
            self._file.close()
            raise

    @property
    def header(self) -> Header:
        return self._core.header

    @property
    def backing(self) -> Node | None:
        """Where the bytes come from that this image does not hold; set it before the first request."""
        return self._core.backing

    @backing.setter
    def backing(self, node: Node) -> None:
        self._core.backing = node

    @property
    def size(self) -> int:
        return self._core.size

    @property
    def read_only(self) -> bool:
        return self._file.read_only

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._core.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self._refuse()

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._refuse()

    def discard(self, offset: int, length: int) -> None:
        self._refuse()

    def flush(self) -> None:
        """There is nothing to flush."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self._core.extents(offset, length)

    def resize(self, size: int) -> None:
        self._refuse()

    def close(self) -> None:
        """Close this image and what backs it."""
        self._file.close()
        if self.backing is not None:
            self.backing.close()

    def _refuse(self) -> NoReturn:
        raise OSError(errno.EROFS, "the image is open only for reading")

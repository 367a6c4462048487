"""A file's own bytes as a read-only disk, whatever format they are in."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import NoReturn

from qmon.block.image_file import ImageFile
from qmon.block.node import Buffer, Extent, Node, ReadNow

_SECTOR = 512


class ReadOnlyFile:
    """Reads an open file that another node owns. Its length is rounded up to whole sectors."""

    read_only = True
    backing: Node | None = None
    write_now = None

    def __init__(self, file: ImageFile) -> None:
        self._file = file

    @property
    def size(self) -> int:
        return -(-self._file.size // _SECTOR) * _SECTOR

    @property
    def read_now(self) -> ReadNow | None:
        return self._file.read_now

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._file.read_into(offset, buffer)

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self._file.extents(offset, length)

    def _refuse(self) -> NoReturn:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    def write(self, offset: int, data: Buffer) -> None:
        self._refuse()

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._refuse()

    def discard(self, offset: int, length: int) -> None:
        self._refuse()

    def resize(self, size: int) -> None:
        self._refuse()

    def flush(self) -> None:
        """Nothing was written."""

    def close(self) -> None:
        """The file is closed by the node that owns it."""

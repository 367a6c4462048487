"""The raw format: the disk is the file, its length rounded up to whole sectors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

from qmon.block.bitmaps import Bitmaps, DirtyBitmap
from qmon.block.direct import DirectFileNode
from qmon.block.file import FileNode
from qmon.block.locks import DISK, READ_ONLY_DISK, LockSet, Permission
from qmon.block.node import Buffer, Extent, Node
from qmon.block.qcow2.bitmaps import Bitmap as StoredBitmap
from qmon.block.qcow2.snapshots import Snapshot

SECTOR = 512


class RawNode:
    """A raw image. With ``lock`` it holds ``locks``, by default those of a running guest's disk.

    With ``direct`` reads bypass this host's page cache. Raises OSError.
    """

    format = "raw"
    backing: Node | None = None
    backing_name = None
    is_dirty = False
    has_cached_tables = False
    listed_bitmaps: tuple[StoredBitmap, ...] = ()
    snapshots: Sequence[Snapshot] = ()

    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        lock: bool = True,
        locks: LockSet | None = None,
        direct: bool = False,
    ) -> None:
        self._locks = locks or (READ_ONLY_DISK if read_only else DISK)
        kind = DirectFileNode if direct else FileNode
        self._file = kind(path, read_only=read_only, locks=self._locks if lock else None)
        self._size = -(-self._file.size // SECTOR) * SECTOR
        self.bitmaps = Bitmaps()

    @property
    def size(self) -> int:
        return self._size

    @property
    def read_only(self) -> bool:
        return self._file.read_only

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._file.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self._file.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._file.zero(offset, length, unmap=unmap)

    def discard(self, offset: int, length: int) -> None:
        self._file.discard(offset, length)

    def flush(self) -> None:
        self._file.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self._file.extents(offset, length)

    def resize(self, size: int) -> None:
        """Resize the file. The resize lock, held meanwhile, excludes programs that rely on the size."""
        self._file.change_locks(self._locks.with_used(Permission.RESIZE))
        try:
            self._file.resize(size)
            self._size = -(-size // SECTOR) * SECTOR
        finally:
            self._file.change_locks(self._locks)

    @property
    def files(self) -> tuple[FileNode, ...]:
        return (self._file,)

    @property
    def locks(self) -> LockSet:
        return self._file.locks

    def change_locks(self, locks: LockSet) -> None:
        self._file.change_locks(locks)
        self._locks = locks

    def leave_to_backing(self, offset: int, length: int) -> None:
        raise OSError(errno.ENOTSUP, "a raw image has no backing image: only qcow2 images have one")

    def check_new_bitmap(self, name: str, granularity: int) -> None:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def remove_bitmap(self, bitmap: DirtyBitmap) -> None:
        """Nothing is stored."""

    def save_bitmaps(self) -> None:
        """Nothing is stored."""

    def resume_bitmaps(self) -> None:
        """Nothing is stored."""

    @property
    def internal(self) -> NoReturn:
        raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP))

    def close(self) -> None:
        self._file.close()

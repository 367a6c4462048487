"""The raw format: the disk is the file, its length rounded up to whole sectors."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Sequence
from typing import NoReturn

from qmon.block import hints
from qmon.block.bitmaps import Bitmaps, DirtyBitmap
from qmon.block.image_file import ImageFile, open_image_file
from qmon.block.locks import DISK, READ_ONLY_DISK, LockSet, Permission
from qmon.block.node import Buffer, Extent, Node, ReadNow, WriteNow
from qmon.block.qcow2.bitmaps import Bitmap as StoredBitmap
from qmon.block.qcow2.snapshots import Snapshot
from qmon.block.transfers import Start, starter
from qmon.notation.caching import WRITEBACK, Caching

SECTOR = 512


class RawNode:
    """A raw image. With ``lock`` it holds ``locks``, by default those of a running guest's disk.

    ``caching`` and ``from_storage`` are those of ``open_image_file``. Raises OSError.
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
        caching: Caching = WRITEBACK,
        from_storage: bool = False,
    ) -> None:
        self._locks = locks or (READ_ONLY_DISK if read_only else DISK)
        held = self._locks if lock else None
        self._file = open_image_file(
            path, read_only=read_only, locks=held, caching=caching, from_storage=from_storage
        )
        self._size = -(-self._file.size // SECTOR) * SECTOR
        self.bitmaps = Bitmaps()

    @property
    def size(self) -> int:
        return self._size

    @property
    def read_only(self) -> bool:
        return self._file.read_only

    @property
    def read_now(self) -> ReadNow | None:
        return self._file.read_now

    @property
    def write_now(self) -> WriteNow | None:
        return self._file.write_now

    @property
    def start(self) -> Start | None:
        return starter(self._file)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._file.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self._file.write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._file.zero(offset, length, unmap=unmap)

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        return hints.zeroes_fast(self._file, offset, length, unmap=unmap)

    @property
    def knows_holes(self) -> bool:
        return hints.knows_holes(self._file)

    def prefetch(self, offset: int, length: int) -> None:
        hints.prefetch(self._file, offset, length)

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
    def files(self) -> tuple[ImageFile, ...]:
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

"""A qcow2 image as a node."""

from __future__ import annotations

import errno
import functools
import logging
from collections.abc import Callable, Iterator

from qmon.block import hints
from qmon.block.bitmaps import Bitmaps, DirtyBitmap
from qmon.block.image_file import ImageFile, open_image_file
from qmon.block.locks import DISK, ImageLockedError, LockSet, Permission
from qmon.block.node import Buffer, Extent, Node, ReadNow, WriteNow
from qmon.block.qcow2.backing_name import change_backing_name
from qmon.block.qcow2.bitmaps import Bitmap as StoredBitmap
from qmon.block.qcow2.core import Core, read_header
from qmon.block.qcow2.header import Header
from qmon.block.qcow2.internal_snapshots import InternalSnapshots
from qmon.block.qcow2.limits import LIMITS, Limits
from qmon.block.qcow2.repair import repair
from qmon.block.qcow2.resize import resize
from qmon.block.qcow2.snapshots import Snapshot
from qmon.block.qcow2.stored_bitmaps import StoredBitmaps
from qmon.block.qcow2.writeout import WriteOut
from qmon.block.qcow2.writer import Writer
from qmon.errors import reason
from qmon.notation.caching import WRITEBACK, Caching
from qmon.notation.file_names import split_protocol

log = logging.getLogger("qmon.qcow2")

LOCKS = DISK.with_used(Permission.RESIZE)
"""Locks of a running guest's qcow2 disk: bytes 100, 101, 103, 201 and 203. Its file grows when written."""


class Qcow2Node:
    """An open qcow2 image. Clusters that it does not hold are read from ``backing``.

    ``locks`` are taken on opening; with ``direct`` reads bypass this host's page cache. Raises OSError;
    Qcow2Error if the image can't be opened as qcow2.
    """

    format = "qcow2"
    has_cached_tables = True

    def __init__(
        self,
        path: str,
        *,
        read_only: bool = False,
        locks: LockSet | None = None,
        is_backing: bool = False,
        caching: Caching = WRITEBACK,
        from_storage: bool = False,
        limits: Limits = LIMITS,
    ) -> None:
        open_file = functools.partial(
            open_image_file, read_only=read_only, locks=locks, caching=caching, from_storage=from_storage
        )
        self._file = open_file(path)
        self._data: ImageFile | None = None
        try:
            name = read_header(self._file, for_writing=not read_only).data_file
            if name is not None:
                self._data = _open_data_file(name, open_file)
            self._core = core = Core(self._file, self._data, is_backing=is_backing, limits=limits)
            self._writer: Writer | None = None
            self.bitmaps = Bitmaps()
            self._stored = StoredBitmaps(core, self.bitmaps)
            if core.refcounts is not None:
                self._out = WriteOut(core, core.refcounts)
                if core.header.is_dirty:
                    repair(core, core.refcounts, self._out)
                if not is_backing:
                    self.resume_bitmaps()
                self._writer = Writer(core, core.refcounts, self._out)
                self._internal = InternalSnapshots(
                    core, core.refcounts, self._out, self._writer, self.bitmaps
                )
        except BaseException:
            self._close_files()
            raise
        self._is_open = True

    @property
    def header(self) -> Header:
        return self._core.header

    @property
    def backing_name(self) -> tuple[str, str | None] | None:
        return self._core.header.backing_name

    @property
    def is_dirty(self) -> bool:
        return self._core.header.is_dirty

    @property
    def backing(self) -> Node | None:
        """The node that has the bytes that this image does not hold; set it before the first request."""
        return self._core.backing

    @backing.setter
    def backing(self, node: Node | None) -> None:
        self._core.backing = node

    @property
    def size(self) -> int:
        return self._core.size

    @property
    def read_only(self) -> bool:
        return self._file.read_only

    @property
    def read_now(self) -> ReadNow | None:
        return self._core.read_now

    @property
    def write_now(self) -> WriteNow | None:
        return None if self._writer is None else self._writer.write_now

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._core.read_into(offset, buffer)

    def write(self, offset: int, data: Buffer) -> None:
        self._writable().write(offset, data)

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None:
        self._writable().zero(offset, length, unmap=unmap)

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        return self._writer is not None and self._writer.zeroes_fast(offset, length, unmap=unmap)

    @property
    def knows_holes(self) -> bool:
        return self.backing is None or hints.knows_holes(self.backing)

    def prefetch(self, offset: int, length: int) -> None:
        self._core.prefetch(offset, length)

    def discard(self, offset: int, length: int) -> None:
        self._writable().discard(offset, length)

    def leave_to_backing(self, offset: int, length: int) -> None:
        self._writable().leave_to_backing(offset, length)

    def flush(self) -> None:
        if self._writer is not None:
            self._out.flush()

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        return self._core.extents(offset, length)

    def resize(self, size: int) -> None:
        writer = self._writable()
        assert self._core.refcounts is not None
        resize(self._core, self._core.refcounts, self._out, writer, size)

    @property
    def snapshots(self) -> list[Snapshot]:
        return list(self._core.snapshots)

    @property
    def internal(self) -> InternalSnapshots:
        self._writable()
        return self._internal

    def change_backing_name(self, name: str) -> None:
        """Make the header name another backing image; the open one stays. Raises OSError."""
        self._writable()
        change_backing_name(self._core, self._out, name)

    @property
    def listed_bitmaps(self) -> tuple[StoredBitmap, ...]:
        return self._stored.entries

    def check_new_bitmap(self, name: str, granularity: int) -> None:
        self._stored.check_new(name, granularity)

    def remove_bitmap(self, bitmap: DirtyBitmap) -> None:
        self._stored.remove(bitmap)

    def save_bitmaps(self) -> None:
        self._stored.store()

    def resume_bitmaps(self) -> None:
        if self._core.refcounts is not None:
            self._stored.begin(self._core.refcounts, self._out)

    @property
    def files(self) -> tuple[ImageFile, ...]:
        return (self._file,) if self._data is None else (self._file, self._data)

    @property
    def locks(self) -> LockSet:
        return self._file.locks

    def change_locks(self, locks: LockSet) -> None:
        held = self._file.locks
        self._file.change_locks(locks)
        if self._data is not None:
            try:
                self._data.change_locks(locks)
            except OSError:
                self._file.change_locks(held)
                raise

    def close(self) -> None:
        """Flush, then close this image and its backing chain. A failed flush is logged."""
        if self._is_open and self._writer is not None:
            self._internal.finish()
            try:
                self._stored.store()
            except OSError as error:
                log.error("image '%s': its bitmaps are inconsistent now: %s", self._file.path, reason(error))
            try:
                self._out.flush()
            except OSError as error:
                log.error("image '%s': the last writes may be lost: %s", self._file.path, reason(error))
        self._is_open = False
        self._close_files()
        if self.backing is not None:
            self.backing.close()

    def _close_files(self) -> None:
        self._file.close()
        if self._data is not None:
            self._data.close()

    def _writable(self) -> Writer:
        if self._writer is None:
            raise OSError(errno.EROFS, "the image is open read-only")
        return self._writer


def _open_data_file(name: str, open_file: Callable[[str], ImageFile]) -> ImageFile:
    """Open the data file that an image names. As in QEMU a relative name starts at the current folder.

    The file gets the image's locks. Raises OSError.
    """
    path = name.removeprefix("file:")
    if split_protocol(path)[0] is not None:
        raise OSError(errno.ENOTSUP, f"the data file '{name}' is not a file's name; only files are supported")
    try:
        return open_file(path)
    except ImageLockedError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"Could not open '{path}': {error.strerror}") from error

"""The file that an image's bytes are in: one of this host, or a remote one that another room opens."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Protocol

from qmon.block.direct import DirectFileNode
from qmon.block.file import Discards, FileNode
from qmon.block.locks import LockSet
from qmon.block.node import Buffer, Extent
from qmon.block.write_threshold import WriteThreshold
from qmon.notation.caching import WRITEBACK, Caching
from qmon.notation.nbd_names import is_export


class ImageFile(Protocol):
    """A file of any length, as the formats use it; FileNode says what the calls do."""

    path: str
    """Its name."""
    discards: Discards
    threshold: WriteThreshold | None

    @property
    def size(self) -> int: ...

    @property
    def read_only(self) -> bool: ...

    @property
    def identity(self) -> tuple[str, int, int]: ...

    @property
    def locks(self) -> LockSet: ...

    @property
    def is_device(self) -> bool: ...

    def check_name(self) -> None: ...

    def read_now(self, offset: int, buffer: memoryview) -> bool: ...

    def write_now(self, offset: int, data: Buffer) -> bool: ...

    def read_into(self, offset: int, buffer: memoryview) -> None: ...

    def write(self, offset: int, data: Buffer) -> None: ...

    def zero(self, offset: int, length: int, *, unmap: bool = True) -> None: ...

    def discard(self, offset: int, length: int) -> None: ...

    def give_back(self, offset: int, length: int) -> None: ...

    def allocate(self, offset: int, length: int) -> None: ...

    def flush(self) -> None: ...

    def forget_cached(self) -> None: ...

    def spare_page_cache(self) -> None: ...

    def use_page_cache(self) -> None: ...

    def extents(self, offset: int, length: int) -> Iterator[Extent]: ...

    def change_locks(self, locks: LockSet) -> None: ...

    def check_locks(self, locks: LockSet) -> None: ...

    def resize(self, size: int) -> None: ...

    def close(self) -> None: ...


class RemoteFileError(OSError):
    """A remote file can't be opened; the text says which and why."""


class RemoteFiles(Protocol):
    """Opens remote files."""

    def open(self, name: str, *, read_only: bool) -> ImageFile:
        """Open a file, or share it if it is open. Raises RemoteFileError."""

    def keeping(self) -> AbstractContextManager[None]:
        """Inside, files that are closed stay connected, so that they can be opened again."""

    def interrupt(self) -> None:
        """Fail all requests at once, now and later. For any thread."""


_remote: list[RemoteFiles] = []


def set_remote_files(files: RemoteFiles) -> None:
    """Say who opens remote files."""
    _remote[:] = [files]


def keeping_remote() -> AbstractContextManager[None]:
    """Inside, remote files that are closed stay connected, so that they can be opened again."""
    return _remote[0].keeping() if _remote else nullcontext()


def interrupt_remote() -> None:
    """Fail all requests to remote files at once, now and later."""
    for files in _remote:
        files.interrupt()


def open_image_file(
    path: str,
    *,
    read_only: bool,
    locks: LockSet | None,
    caching: Caching = WRITEBACK,
    from_storage: bool = False,
) -> ImageFile:
    """Open the file of an image; a remote one has no locks, and is cached where it is. Raises OSError.

    With ``from_storage`` it is read past this host's page cache if that is possible.
    """
    if _remote and is_export(path):
        return _remote[0].open(path, read_only=read_only)
    flushes, direct = not caching.of_file.no_flush, caching.of_file.direct
    if direct or from_storage:
        return DirectFileNode(path, read_only=read_only, locks=locks, flushes=flushes, is_needed=direct)
    return FileNode(path, read_only=read_only, locks=locks, flushes=flushes)

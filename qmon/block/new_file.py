"""Creates a file for an image, as QEMU's ``file`` driver does. It empties a file that exists."""

from __future__ import annotations

import enum
import os
from collections.abc import Callable
from typing import Protocol

from qmon.block.file import ZEROS, FileNode
from qmon.block.locks import LockSet, Permission
from qmon.block.node import Buffer
from qmon.errors import reason

_MODE = 0o644

FILLING = LockSet(
    frozenset({Permission.WRITE, Permission.RESIZE}), frozenset({Permission.WRITE, Permission.RESIZE})
)
"""Locks while a file is filled anew: nobody else writes it or relies on its size."""


class Storage(enum.Enum):
    """What a new disk's storage is (QAPI: PreallocMode)."""

    OFF = "off"
    METADATA = "metadata"
    """The tables that say where the data will be."""
    FALLOC = "falloc"
    """The file system reserves it."""
    FULL = "full"
    """Zeros are written."""


def create_file(path: str, size: int, storage: Storage, check: Callable[[], None]) -> None:
    """Create or empty a file, and make it ``size`` bytes of zeros. Raises OSError that says what failed.

    A file in use by another program is left as it is. ``check`` is called often; what it raises ends it.
    """
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _MODE))
        file = FileNode(path, read_only=False, locks=None)
    except (OSError, ValueError) as error:
        raise OSError(getattr(error, "errno", None), f"Could not create '{path}': {reason(error)}") from error
    try:
        file.change_locks(FILLING)
        _resize(file, 0)
        if storage is Storage.METADATA:
            raise OSError(None, "Unsupported preallocation mode: metadata")
        _resize(file, size)
        if storage is Storage.FALLOC and size:
            _try(lambda: file.allocate(0, size), "Could not preallocate data for the new file", file)
        if storage is Storage.FULL:
            _try(lambda: write_zeros(file, 0, size, check), "Could not write zeros for preallocation", file)
    finally:
        file.close()


def _resize(file: FileNode, size: int) -> None:
    try:
        file.resize(size)
    except OverflowError as error:
        raise OSError(None, "Could not resize file: Invalid argument") from error
    except OSError as error:
        raise OSError(error.errno, f"Could not resize file: {reason(error)}") from error


def _try(filling: Callable[[], None], what: str, file: FileNode) -> None:
    try:
        filling()
        file.flush()
    except OSError as error:
        file.resize(0)
        raise OSError(error.errno, f"{what}: {reason(error)}") from error


class _Writable(Protocol):
    def write(self, offset: int, data: Buffer) -> None: ...


def write_zeros(file: _Writable, offset: int, length: int, check: Callable[[], None]) -> None:
    """Write zeros to a range, so that it has storage. Raises OSError, and what ``check`` raises."""
    end = offset + length
    while offset < end:
        check()
        count = min(end - offset, len(ZEROS))
        file.write(offset, ZEROS[:count])
        offset += count

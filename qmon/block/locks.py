"""Image locks, laid out as QEMU lays them out, so that both keep out of each other's way.

Open-file-description locks on single bytes: byte 100 + n says "I use permission n", byte 200 + n "I don't
share permission n with others" (QEMU, block/file-posix.c: RAW_LOCK_PERM_BASE, RAW_LOCK_SHARED_BASE).
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from enum import IntEnum

PERMISSION_BASE = 100
NOT_SHARED_BASE = 200
_LOCKED_BYTES = NOT_SHARED_BASE - PERMISSION_BASE + 64  # QEMU's permissions are bits of a 64-bit word

_FLOCK = struct.Struct("hhqqi4x")


class Permission(IntEnum):
    """What may be done with an image; the numbers are QEMU's."""

    READ = 0
    WRITE = 1
    WRITE_UNCHANGED = 2
    RESIZE = 3


_NAMES = {
    Permission.READ: "consistent read",
    Permission.WRITE: "write",
    Permission.WRITE_UNCHANGED: "write unchanged",
    Permission.RESIZE: "resize",
}


class ImageLockedError(OSError):
    """Another process uses the image in a way that excludes ours."""

    def __init__(self, what: str, path: str) -> None:
        super().__init__(
            errno.EAGAIN, f"Failed to get {what} lock: is another process using the image [{path}]?"
        )


@dataclass(frozen=True, slots=True)
class LockSet:
    """Which permissions an opener uses, and which it does not share."""

    used: frozenset[Permission]
    not_shared: frozenset[Permission]

    def with_used(self, *more: Permission) -> LockSet:
        """The same with more permissions used and, as a running guest's disk, not shared."""
        return LockSet(self.used | set(more), self.not_shared | set(more))

    def bytes_locked(self) -> frozenset[int]:
        """The positions of the locked bytes."""
        return frozenset(
            {PERMISSION_BASE + n for n in self.used} | {NOT_SHARED_BASE + n for n in self.not_shared}
        )


DISK = LockSet(frozenset({Permission.READ, Permission.WRITE}), frozenset({Permission.WRITE}))
"""A running guest's raw disk: bytes 100, 101 and 201."""

NO_LOCKS = LockSet(frozenset(), frozenset())

READ_ONLY_DISK = LockSet(frozenset({Permission.READ}), frozenset({Permission.WRITE}))
"""A running guest's read-only disk: bytes 100 and 201."""


def _set(fd: int, kind: int, position: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, position, 1, 0))


def _is_locked_by_another(fd: int, position: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


def is_image_in_use(fd: int) -> bool:
    """Whether anybody else holds any of these locks on an open file. Raises OSError, as ``ImageLock``."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, PERMISSION_BASE, _LOCKED_BYTES, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


class ImageLock:
    """The locks of one open file description. Raises OSError where the file system has no such locks."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self._held: frozenset[int] = frozenset()

    def change(self, wanted: LockSet) -> None:
        """Hold exactly ``wanted``: take what is new, ask whether others exclude it, then release the rest.

        Raises ImageLockedError, and holds what it held before; never where nothing is new: another that
        tries to open the image locks first and looks then, which must not fail what is only given up.
        """
        positions = wanted.bytes_locked()
        new = positions - self._held
        for position in sorted(new):
            _set(self._fd, fcntl.F_RDLCK, position)
        try:
            if new:
                self._check(wanted)
        except OSError:
            for position in new:
                _set(self._fd, fcntl.F_UNLCK, position)
            raise
        for position in self._held - positions:
            _set(self._fd, fcntl.F_UNLCK, position)
        self._held = positions

    def release(self) -> None:
        """Hold nothing."""
        self.change(NO_LOCKS)

    def _check(self, wanted: LockSet) -> None:
        for permission in sorted(wanted.used):
            if _is_locked_by_another(self._fd, NOT_SHARED_BASE + permission):
                raise ImageLockedError(f'"{_NAMES[permission]}"', self._path)
        for permission in sorted(wanted.not_shared):
            if _is_locked_by_another(self._fd, PERMISSION_BASE + permission):
                raise ImageLockedError(f'shared "{_NAMES[permission]}"', self._path)

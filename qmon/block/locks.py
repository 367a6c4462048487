"""Image locks in QEMU's layout, so that qmon and QEMU respect each other's locks.

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
    """Uses of an image; the numbers are QEMU's."""

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
    """Another process uses the image in a conflicting way."""

    def __init__(self, what: str, path: str) -> None:
        self.why = f"Failed to get {what} lock"
        """The first half of the message, which is QEMU's own."""
        super().__init__(errno.EAGAIN, f"{self.why}: is another process using the image [{path}]?")


@dataclass(frozen=True, slots=True)
class LockSet:
    """The permissions that a program uses on an image, and those that it denies to others."""

    used: frozenset[Permission]
    not_shared: frozenset[Permission]

    def with_used(self, *more: Permission) -> LockSet:
        """Return a set with more permissions used and, as for a running guest's disk, not shared."""
        return LockSet(self.used | set(more), self.not_shared | set(more))

    def bytes_locked(self) -> frozenset[int]:
        """The positions of the locked bytes."""
        return frozenset(
            {PERMISSION_BASE + n for n in self.used} | {NOT_SHARED_BASE + n for n in self.not_shared}
        )


DISK = LockSet(frozenset({Permission.READ, Permission.WRITE}), frozenset({Permission.WRITE}))
"""Locks of a running guest's raw disk: bytes 100, 101 and 201."""

NO_LOCKS = LockSet(frozenset(), frozenset())

READ_ONLY_DISK = LockSet(frozenset({Permission.READ}), frozenset({Permission.WRITE}))
"""Locks of a running guest's read-only disk: bytes 100 and 201."""


SHARED_READ = LockSet(frozenset({Permission.READ}), frozenset())
"""Locks of a reader that lets others write meanwhile: byte 100."""


def _set(fd: int, kind: int, position: int) -> None:
    fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _FLOCK.pack(kind, os.SEEK_SET, position, 1, 0))


def _is_locked_by_another(fd: int, position: int) -> bool:
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, position, 1, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


def is_image_in_use(fd: int) -> bool:
    """Whether another opener holds any image lock on a file. Raises OSError, as ``ImageLock`` does."""
    asked = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, PERMISSION_BASE, _LOCKED_BYTES, 0)
    answer = _FLOCK.unpack(fcntl.fcntl(fd, fcntl.F_OFD_GETLK, asked))
    return bool(answer[0] != fcntl.F_UNLCK)


class ImageLock:
    """The locks of one open file description. Raises OSError if the file system does not support them."""

    def __init__(self, fd: int, path: str) -> None:
        self._fd = fd
        self._path = path
        self._held: frozenset[int] = frozenset()

    def change(self, wanted: LockSet) -> None:
        """Hold exactly ``wanted``: take the new locks, check for conflicts, then release the others.

        Raises ImageLockedError on a conflict, and then holds the former locks. It never raises when locks
        are only released: another opener takes its locks before it checks, and these must not count then.
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

    def check(self, wanted: LockSet) -> None:
        """Raises ImageLockedError if ``wanted`` could not be held now. Nothing is locked or released."""
        self._check(wanted)

    def release(self) -> None:
        """Release all locks."""
        self.change(NO_LOCKS)

    def _check(self, wanted: LockSet) -> None:
        for permission in sorted(wanted.used):
            if _is_locked_by_another(self._fd, NOT_SHARED_BASE + permission):
                raise ImageLockedError(f'"{_NAMES[permission]}"', self._path)
        for permission in sorted(wanted.not_shared):
            if _is_locked_by_another(self._fd, PERMISSION_BASE + permission):
                raise ImageLockedError(f'shared "{_NAMES[permission]}"', self._path)

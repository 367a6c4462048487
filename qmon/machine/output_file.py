"""Opens files that commands write to, and refuses disk images that are in use."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
from collections.abc import Iterable

from qmon.block.locks import is_image_in_use
from qmon.host.fdsets import open_file, real_name

_MODE = 0o600
"""Only for the owner, because most of these files contain what was typed at a monitor."""


def open_output_file(path: str, images: Iterable[str], flags: int = 0) -> int:
    """Open a file for writing, without truncating it, and return its descriptor.

    Only its owner can read a new file. Raises OSError, also for one of this machine's ``images`` and for an
    image that another process uses; ValueError for a null byte.
    """
    # O_NONBLOCK: the open of a FIFO without a reader fails at once.
    access = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    descriptor, _ = open_file(path, access | flags, _MODE)
    try:
        status = os.fstat(descriptor)
        if stat.S_ISBLK(status.st_mode):
            raise OSError(errno.EINVAL, "it is a block device", path)
        ours = any(_is_same(status, image) for image in images)
        if ours or (stat.S_ISREG(status.st_mode) and is_image_in_use(descriptor)):
            raise OSError(errno.EBUSY, "it is a disk image in use", path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def write_own_file(path: str, content: bytes, sign: bytes, images: Iterable[str]) -> None:
    """Write a whole file or nothing; replace no file but a regular one that begins with ``sign``.

    Only its owner can read it. Raises OSError; FileExistsError for any other file.
    """
    path = os.path.realpath(path)
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, _MODE))
        is_new = True
    except FileExistsError:
        _check_own(path, sign, images)
        is_new = False
    try:
        _replace(path, content)
    except BaseException:
        if is_new:
            os.unlink(path)
        raise


def _check_own(path: str, sign: bytes, images: Iterable[str]) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        status = os.fstat(descriptor)
        is_own = stat.S_ISREG(status.st_mode) and os.pread(descriptor, len(sign), 0) == sign
        if not is_own or any(_is_same(status, image) for image in images) or is_image_in_use(descriptor):
            raise FileExistsError(errno.EEXIST, "it exists, and is no such report: give another name", path)
    finally:
        os.close(descriptor)


def _replace(path: str, content: bytes) -> None:
    descriptor, new = tempfile.mkstemp(prefix=".qmon-", dir=os.path.dirname(path))  # only for its owner
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        os.unlink(new)
        raise


def _is_same(status: os.stat_result, image: str) -> bool:
    try:
        return os.path.samestat(status, os.stat(real_name(image)))
    except OSError:  # the image was removed, or is not a file on this host
        return False

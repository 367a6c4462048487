"""Files that a command writes: made where they are not, but never over a disk image that is in use."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable

from qmon.block.locks import is_image_in_use

_MODE = 0o600
"""Most hold what was said at a monitor."""


def open_output_file(path: str, images: Iterable[str], flags: int = 0) -> int:
    """Open a file for writing and return its descriptor: nothing of what it holds is lost by that.

    A new one is its owner's alone. Raises OSError, also for one of our ``images`` and one that another
    process uses; ValueError for a null byte.
    """
    # O_NONBLOCK: a FIFO that nobody reads fails at once.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK | flags, _MODE)
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


def _is_same(status: os.stat_result, image: str) -> bool:
    try:
        return os.path.samestat(status, os.stat(image))
    except OSError:  # an image that has gone, or that is no file of this host
        return False

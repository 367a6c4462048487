"""Recognizes the image that a journal record is about: by its path, its file, and the file's contents.

None of these is enough alone: another file can get the path, a file can be renamed, and inode numbers are
reused. ``is_of`` considers them together.
"""

from __future__ import annotations

import ctypes
import os
import stat
import struct
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import xxhash

from qmon.host.fdsets import open_file, real_name
from qmon.notation.nbd_names import is_export

SAMPLE_SIZE = 64 << 10
SAMPLES = 8
"""Few enough to be read within the downtime, even from a disk that seeks for each."""

# <linux/stat.h>, <fcntl.h>
_AT_FDCWD = -100
_STATX_BTIME = 0x800
_STATX_SIZE = 256
_BTIME_OFFSET = 80

_SERIAL_FILES = ("dm/uuid", "device/wwid", "wwid", "device/serial", "loop/backing_file")
"""Files in a disk's sysfs folder with a permanent name of the disk."""

_PART_FILES = ("partition", "loop/offset")
"""Files in sysfs that distinguish the partitions of a disk."""


@dataclass(frozen=True, slots=True)
class Image:
    """What identifies an image file or block device; ``path`` is without symbolic links.

    ``device`` and ``inode`` are the file's; a block device has its own number as ``device``, and the inode 0.
    ``serial`` distinguishes files that had the same numbers one after the other: it is the file's birth time
    in nanoseconds, or the permanent name of a block device; empty if unknown. ``size`` is in bytes,
    ``modified`` in nanoseconds, and 0 for a block device.
    """

    path: str
    device: str = ""
    inode: int = 0
    serial: str = ""
    size: int = 0
    modified: int = 0


def identify(path: str) -> Image:
    """Return the identity of the image at a path; if there is none, it has the path alone."""
    if is_export(path):
        return Image(path)
    try:
        path = real_name(path)
    except OSError:
        return Image(path)
    real = os.path.realpath(path)
    try:
        found = os.stat(real)
    except OSError:
        return Image(real)
    if stat.S_ISBLK(found.st_mode):
        device = f"{os.major(found.st_rdev)}:{os.minor(found.st_rdev)}"
        return Image(real, device, 0, _device_serial(device), _size(real), 0)
    device = f"{os.major(found.st_dev)}:{os.minor(found.st_dev)}"
    return Image(real, device, found.st_ino, _birth(real), found.st_size, found.st_mtime_ns)


def fingerprint(path: str) -> str:
    """Return a checksum of samples of a file, or of all of a small file; "" if the samples are all zeros.

    Raises OSError.
    """
    checksum = xxhash.xxh3_128()
    is_blank = True
    with open(path, "rb", opener=lambda name, flags: open_file(name, flags | os.O_NONBLOCK)[0]) as file:
        size = file.seek(0, os.SEEK_END)
        last = max(0, size - SAMPLE_SIZE)
        for offset in sorted({last * number // (SAMPLES - 1) for number in range(SAMPLES)}):
            file.seek(offset)
            sample = file.read(SAMPLE_SIZE)
            is_blank = is_blank and sample.count(0) == len(sample)
            checksum.update(sample)
    return "" if is_blank else checksum.hexdigest()


def is_of(recorded: Image, recorded_print: str, image: Image, look: Callable[[], str]) -> bool:
    """Whether a record is about an image; ``look`` returns the image's fingerprint, "" if it has none.

    In doubt the answer is yes: that only pauses the machine, and the operator can resume it.
    """
    if not recorded.device or not image.device:  # one of them did not exist when it was identified
        return recorded.path == image.path
    if recorded.serial and image.serial:
        if (recorded.inode, recorded.serial) == (image.inode, image.serial):
            return True
    elif recorded.inode == image.inode and (
        recorded.device == image.device or recorded.path == image.path  # devices get new numbers at boot
    ):
        return True
    # Another file. With the same contents, and the same path or time of change, it was moved or restored.
    is_kept = recorded.path == image.path or (recorded.modified == image.modified != 0)
    return is_kept and recorded.size == image.size and recorded_print != "" and look() == recorded_print


def _size(path: str) -> int:
    with suppress(OSError), open(path, "rb") as file:
        return file.seek(0, os.SEEK_END)
    return 0


def _device_serial(device: str) -> str:
    folder = Path(f"/sys/dev/block/{device}").resolve()
    part = next(filter(None, (_line(folder / name) for name in _PART_FILES)), "0")
    disk = folder.parent if (folder / "partition").exists() else folder
    serial = next(filter(None, (_line(disk / name) for name in _SERIAL_FILES)), "")
    return f"{serial} {part}" if serial else ""


def _line(path: Path) -> str:
    try:
        return path.read_text(errors="surrogateescape").strip()
    except OSError:
        return ""


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _birth(path: str) -> str:
    """Return a file's birth time in nanoseconds, "" if unknown (statx(2), which Python does not offer)."""
    buffer = ctypes.create_string_buffer(_STATX_SIZE)
    if _libc().statx(_AT_FDCWD, os.fsencode(path), 0, _STATX_BTIME, buffer) != 0:
        return ""
    (mask,) = struct.unpack_from("I", buffer)
    seconds, nanoseconds = struct.unpack_from("qI", buffer, _BTIME_OFFSET)
    return f"{seconds}.{nanoseconds:09}" if mask & _STATX_BTIME else ""

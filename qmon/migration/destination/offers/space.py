"""Compares what a copy will write with the space of the destination's file systems.

Only what is certain is refused: a lower bound of the data that are written, minus what the image files
occupy already, exceeds the free space of a file system that stores every byte. What may not fit is only a
warning.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from qmon.block.image import ImageNode
from qmon.migration.wire.offer import Amount
from qmon.notation.nbd_names import is_export
from qmon.notation.units import human_size

_PLAIN = frozenset({"ext2", "ext3", "ext4", "xfs", "tmpfs", "vfat", "exfat"})
"""File systems that neither compress nor deduplicate: data take at least their own size."""

_MOUNTS = Path("/proc/self/mountinfo")


@dataclass(slots=True)
class _Place:
    """A file system or block device, and the drives that are copied to it."""

    path: str
    """One of the files there."""
    free: int
    is_certain: bool
    """Whether data take at least their own size there."""
    drives: list[str] = field(default_factory=list)
    files: set[tuple[int, int]] = field(default_factory=set)
    allocated: int = 0
    """Bytes that the drives' files occupy already."""
    least: int = 0
    most: int = 0
    """Bytes of data that the copy writes there: bounds. ``most`` leaves out what the files occupy."""
    is_device: bool = False


class Space:
    """The space that a migration needs. Add each copied drive, then read what is wrong."""

    def __init__(self) -> None:
        self._places: dict[tuple[str, int], _Place] = {}

    def add(self, drive: str, node: ImageNode, amount: Amount | None) -> None:
        """Add a drive that is copied into the open image ``node``. Raises OSError."""
        amount = amount or Amount(0, node.size)
        file = node.files[-1]  # the external data file, if there is one
        if is_export(file.path):
            return  # the server's space is unknown
        found = os.stat(file.path)
        if stat.S_ISBLK(found.st_mode):
            if node.format == "raw":
                return  # its size was compared
            place = self._places.setdefault(
                ("device", found.st_rdev), _Place(file.path, file.size, is_certain=True, is_device=True)
            )
            occupied = 0
        else:
            place = self._place(file.path, found.st_dev)
            is_new = (found.st_dev, found.st_ino) not in place.files
            place.files.add((found.st_dev, found.st_ino))
            occupied = found.st_blocks * 512 if is_new else 0
        place.drives.append(drive)
        place.allocated += occupied
        place.least += amount.least
        place.most += max(0, amount.most - occupied)

    def _place(self, path: str, device: int) -> _Place:
        key = ("file system", device)
        if key not in self._places:
            found = os.statvfs(path)
            # The superuser may use the blocks that are reserved for it.
            blocks = found.f_bavail if os.geteuid() else found.f_bfree
            is_certain = bool(found.f_blocks) and _type_of(device) in _PLAIN
            self._places[key] = _Place(path, blocks * found.f_frsize, is_certain)
        return self._places[key]

    def mismatches(self) -> Iterator[str]:
        """Yield a sentence for each file system on which the copy certainly does not fit."""
        for place in self._places.values():
            missing = place.least - place.allocated
            if place.is_certain and missing > place.free:
                yield f"{_needs(place)} at least {human_size(missing)}{_there(place)}"

    def warnings(self) -> Iterator[str]:
        """Yield a sentence for each file system on which the copy may not fit."""
        for place in self._places.values():
            is_refused = place.is_certain and place.least - place.allocated > place.free
            if not is_refused and place.most > place.free:
                yield f"{_needs(place)} up to {human_size(place.most)}{_there(place)}"


def _needs(place: _Place) -> str:
    names = ", ".join(f"'{name}'" for name in place.drives)
    return f"drive {names} needs" if len(place.drives) == 1 else f"drives {names} need"


def _there(place: _Place) -> str:
    more = "" if place.is_device else " more"
    where = f"device '{place.path}'" if place.is_device else f"file system of '{place.path}'"
    return f"{more} at the destination, and the {where} has {human_size(place.free)}" + (
        "" if place.is_device else " free"
    )


def _type_of(device: int) -> str:
    """Return the type of the mounted file system with a device number, "" if unknown."""
    number = f"{os.major(device)}:{os.minor(device)}"
    try:
        lines = _MOUNTS.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return ""
    for line in lines:
        fields = line.split()
        if fields[2] == number and "-" in fields:
            return fields[fields.index("-") + 1]
    return ""

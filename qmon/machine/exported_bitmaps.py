"""Finds the bitmaps that an export offers to its clients."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qmon.block.bitmaps import DirtyBitmap
from qmon.errors import CommandError
from qmon.machine.bitmap_actions import check_usable, find_bitmap
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine

MAX_BITMAPS = 1000
"""The most bitmaps of an export: of each, one reply must tell at least one run."""

BitmapName = str | Mapping[str, str]
"""A name, of a bitmap in the exported chain, or a dictionary of ``node`` and ``name``."""


def exported_bitmaps(
    machine: Machine, drive: Drive, node: str | None, names: Sequence[BitmapName], *, writable: bool
) -> list[DirtyBitmap]:
    """Return the bitmaps for a new export of a drive's node. Raises CommandError with QEMU's message."""
    if len(names) > MAX_BITMAPS:
        raise CommandError(f"an export has at most {MAX_BITMAPS} bitmaps")
    found = []
    for each in names:
        if isinstance(each, str):
            bitmap = _in_chain(drive, node, each, writable=writable)
        else:
            _, bitmap = find_bitmap(machine, each["node"], each["name"])
        check_usable(bitmap)
        if bitmap.size != drive.layer_size(drive.names.layer_of(node) or 0):
            raise CommandError(f"Bitmap '{bitmap.name}' is of a disk of another size, {bitmap.size} bytes")
        found.append(bitmap)
    return found


def _in_chain(drive: Drive, node: str | None, name: str, *, writable: bool) -> DirtyBitmap:
    first = drive.names.layer_of(node)
    for number in range(len(drive.layers) if first is None else first, len(drive.layers)):
        bitmap = drive.bitmaps(number).find(name)
        if bitmap is not None:
            if bitmap.recording and not writable and number == 0 and not drive.read_only:
                raise CommandError(f"Enabled bitmap '{name}' incompatible with readonly export")
            return bitmap
    raise CommandError(f"Bitmap '{name}' is not found")

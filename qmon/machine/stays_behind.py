"""What a migration leaves at the source: a copy is of what a disk holds, not of all that is in its image."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qmon.machine.drive import Drive
from qmon.migration.wire.offer import Mode


def stays_behind(drives: Iterable[Drive], mode: Mode) -> list[dict[str, Any]]:
    """An entry (``qmon.notation.left_behind``) for each image that has what a migration does not carry.

    Images behind a drive's own count only where they are not at the destination by themselves.
    """
    if mode is Mode.SHARED:
        return []
    entries: list[dict[str, Any]] = []
    for drive in drives:
        for number, layer in enumerate(drive.layers[:1] if mode is Mode.INCREMENTAL else drive.layers):
            if layer.snapshots or layer.bitmaps:
                counts = {"snapshots": len(layer.snapshots), "bitmaps": len(layer.bitmaps)}
                of = {"backing-image": layer.file} if number else {}
                entries.append({"drive": drive.id, **counts, **of})
    return entries

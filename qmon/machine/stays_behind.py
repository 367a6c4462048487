"""Lists what a migration does not copy: internal snapshots and persistent bitmaps of images."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from qmon.machine.drive import Drive
from qmon.migration.wire.offer import Mode


def stays_behind(drives: Iterable[Drive], mode: Mode) -> list[dict[str, Any]]:
    """Return an entry (``qmon.notation.left_behind``) for each image with snapshots or bitmaps.

    Backing images count only in a full copy: in other modes the destination has them already.
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

"""Lists what a migration does not copy: internal snapshots and dirty bitmaps of images."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from qmon.block.bitmaps import DirtyBitmap
from qmon.machine.drive import Drive
from qmon.machine.migration.bitmaps import MAPPING
from qmon.migration.capabilities import BITMAPS
from qmon.migration.wire.offer import Mode


def stays_behind(
    drives: Iterable[Drive], mode: Mode, taken: Collection[DirtyBitmap] = (), *, takes_bitmaps: bool = False
) -> list[dict[str, Any]]:
    """Return an entry (``qmon.notation.left_behind``) for each image with snapshots or bitmaps.

    Backing images count only in a full copy: in other modes the destination has them already. Of a disk that
    both sides have, only bitmaps that no image stores stay behind; ``taken`` are those that are taken along.
    ``takes_bitmaps``: the capability dirty-bitmaps is on, so that only the mapping keeps others.
    """
    is_shared = mode is Mode.SHARED
    entries: list[dict[str, Any]] = []
    for drive in drives:
        for number, layer in enumerate(drive.layers[:1] if mode is Mode.INCREMENTAL else drive.layers):
            names = set() if is_shared else {each.shown_name for each in layer.bitmaps}
            names |= {each.name for each in drive.bitmaps(number) if not (is_shared and each.persistent)}
            names -= {each.name for each in drive.bitmaps(number) if each in taken}
            snapshots = 0 if is_shared else len(layer.snapshots)
            if snapshots or names:
                counts = {"snapshots": snapshots, "bitmaps": len(names)}
                of = {"backing-image": layer.file} if number else {}
                is_possible = bool(names) and not number and not drive.read_only
                by = {"bitmaps-need": MAPPING if takes_bitmaps else BITMAPS} if is_possible else {}
                entries.append({"drive": drive.id, **counts, **of, **by})
    return entries

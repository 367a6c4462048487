"""Puts into words what a migration does not copy: an entry of query-migrate's ``x-qmon-stays-behind``.

An entry is about one image: ``drive``, the numbers of internal ``snapshots`` and dirty ``bitmaps``, and
``backing-image``, its file, if the image is one of the drive's backing images. ``bitmaps-need`` is the
setting by which bitmaps go along, if one does. About a QEMU's disk it is a sentence.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_SETTINGS = {
    "dirty-bitmaps": " (the capability dirty-bitmaps is off)",
    "block-bitmap-mapping": " (block-bitmap-mapping does not name them)",
}


def sentence(entry: Mapping[str, Any] | str, *, is_over: bool = False) -> str:
    """Return one line about an entry; ``is_over`` says whether the migration has completed."""
    if isinstance(entry, str):
        return entry
    counts = [
        f"{entry[field]} {noun}{'' if entry[field] == 1 else 's'}"
        for field, noun in (("snapshots", "internal snapshot"), ("bitmaps", "dirty bitmap"))
        if entry[field]
    ]
    of = f" of its backing image '{entry['backing-image']}'" if "backing-image" in entry else ""
    is_one = entry["snapshots"] + entry["bitmaps"] == 1
    by = "" if is_over else _SETTINGS.get(entry.get("bitmaps-need", ""), "")
    verb = ("was" if is_one else "were") if is_over else ("is" if is_one else "are")
    return f"drive '{entry['drive']}': {' and '.join(counts)}{of} {verb} not copied{by}"

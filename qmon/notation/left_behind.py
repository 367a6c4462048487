"""What a copy of a drive leaves at the source, in words: an entry of query-migrate's ``x-qmon-stays-behind``.

An entry is of one image: ``drive``, the numbers ``snapshots`` (internal ones) and ``bitmaps`` (persistent
ones), and ``backing-image``, its file, for an image behind the drive's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def sentence(entry: Mapping[str, Any], *, is_over: bool = False) -> str:
    """One line; ``is_over`` is whether the migration has completed."""
    counts = [
        f"{entry[field]} {noun}{'' if entry[field] == 1 else 's'}"
        for field, noun in (("snapshots", "internal snapshot"), ("bitmaps", "persistent bitmap"))
        if entry[field]
    ]
    of = f" of its backing image '{entry['backing-image']}'" if "backing-image" in entry else ""
    is_one = entry["snapshots"] + entry["bitmaps"] == 1
    verb = "stayed" if is_over else "stays" if is_one else "stay"
    return f"drive '{entry['drive']}': {' and '.join(counts)}{of} {verb} behind"

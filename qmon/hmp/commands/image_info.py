"""Formats an ImageInfo (qapi/block-core.json) as ``info block -v`` shows it."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from typing import Any


def size_text(size_bytes: int) -> str:
    """Return a size in the unit in which it is from 0.977 to 1000, rounded as in QEMU: ``16 MiB``."""
    value = float(size_bytes)
    units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"]
    while value >= 1000 and len(units) > 1:
        value /= 1024
        del units[0]
    return f"{value:0.3g} {units[0]}"


def image_info_lines(image: Mapping[str, Any]) -> list[str]:
    """Return the lines for an image and its backing images, topmost first."""
    lines = _one_image(image)
    backing = image.get("backing-image")
    if backing:
        lines += image_info_lines(backing)
    return lines


def _one_image(image: Mapping[str, Any]) -> list[str]:
    virtual = image["virtual-size"]
    allocated = image.get("actual-size")
    lines = [
        f"image: {image['filename']}",
        f"file format: {image['format']}",
        f"virtual size: {size_text(virtual)} ({virtual} bytes)",
        f"disk size: {'unavailable' if allocated is None else size_text(allocated)}",
    ]
    if image.get("encrypted"):
        lines.append("encrypted: yes")
    if "cluster-size" in image:
        lines.append(f"cluster_size: {image['cluster-size']}")
    if image.get("dirty-flag"):
        lines.append("cleanly shut down: no")
    if "backing-filename" in image:
        backing = image["backing-filename"]
        full = image.get("full-backing-filename", backing)
        lines.append(f"backing file: {backing}" + (f" (actual path: {full})" if full != backing else ""))
        if "backing-filename-format" in image:
            lines.append(f"backing file format: {image['backing-filename-format']}")
    if image.get("snapshots"):
        lines += ["Snapshot list:", *snapshot_lines(image["snapshots"])]
    specific = image.get("format-specific")
    if specific:
        lines += ["Format specific information:", *_specific_lines(specific.get("data", {}), 1)]
    return lines


def snapshot_lines(snapshots: Iterable[Mapping[str, Any]], *, with_ids: bool = True) -> list[str]:
    """Return a table of SnapshotInfos. Omit the ids for several images, because each image has its own."""
    lines = [_snapshot_line("ID", "TAG", "VM SIZE", "DATE", "VM CLOCK", "ICOUNT")]
    for snapshot in snapshots:
        minutes, seconds = divmod(snapshot["vm-clock-sec"], 60)
        hours, minutes = divmod(minutes, 60)
        lines.append(
            _snapshot_line(
                snapshot["id"] if with_ids else "--",
                snapshot["name"],
                size_text(snapshot["vm-state-size"]),
                time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(snapshot["date-sec"])),
                f"{hours:02}:{minutes:02}:{seconds:02}.{snapshot['vm-clock-nsec'] // 1_000_000:03}",
                str(snapshot.get("icount", "")),
            )
        )
    return lines


def _snapshot_line(id: str, name: str, size: str, date: str, clock: str, icount: str) -> str:
    return f"{_padded(id, 9)} {_padded(name, 16)} {size:>8}{date:>20}{clock:>13}{icount:>11}"


def _padded(text: str, width: int) -> str:
    """Pad a text to a width in bytes, as C's printf does."""
    return text + " " * (width - len(text.encode()))


def _specific_lines(data: Mapping[str, Any] | Sequence[Any], depth: int) -> list[str]:
    lines = []
    if isinstance(data, Mapping):
        items = [(key.replace("-", " "), value) for key, value in data.items()]
    else:
        items = [(f"[{number}]", value) for number, value in enumerate(data)]
    for key, value in items:
        name = "    " * depth + key
        if isinstance(value, Mapping | list):
            lines += [f"{name}:", *_specific_lines(value, depth + 1)]
        else:
            lines.append(f"{name}: {str(value).lower() if isinstance(value, bool) else value}")
    return lines

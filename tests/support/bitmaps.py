"""What QEMU reads of the dirty bitmaps that an image holds."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from tests.support.qcow2_images import run

Run = tuple[int, int]
"""An offset and a length in bytes."""


def nbd_map(context: str, *where: object) -> list[tuple[int, int, int]]:
    """The (offset, length, type) of a metadata context: of an URI, or of a server that nbdinfo starts."""
    command = ["nbdinfo", "--json", f"--map={context}", *map(str, where)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done
    return map_of(done.stdout)


def map_of(printed: str) -> list[tuple[int, int, int]]:
    """The (offset, length, type) of what nbdinfo prints."""
    entries: list[dict[str, int]] = json.loads(printed)
    return [(each["offset"], each["length"], each["type"]) for each in entries]


def served(image: Path, *options: object) -> tuple[object, ...]:
    """A qemu-nbd that nbdinfo starts on a qcow2 image."""
    return "--", "[", "qemu-nbd", "-r", "-f", "qcow2", *options, image, "]"


def dirty(image: Path, bitmap: str) -> list[Run]:
    """What a bitmap of an image that nobody has open marks, as qemu-nbd reads it."""
    found = nbd_map(f"qemu:dirty-bitmap:{bitmap}", *served(image, "-B", bitmap))
    return [(offset, length) for offset, length, kind in found if kind == 1]


def stored(image: Path) -> dict[str, Any]:
    """The bitmaps that qemu-img lists: their flags and granularity by their names."""
    info = json.loads(run("info", "-U", "--output=json", image))
    found = info["format-specific"]["data"].get("bitmaps", [])
    return {each["name"]: (each["flags"], each["granularity"]) for each in found}


def add(image: Path, *bitmaps: str) -> Path:
    """Add bitmaps with qemu-img; each is its options and its name, with commas between."""
    for each in bitmaps:
        *options, name = each.split(",")
        run("bitmap", "--add", *options, image, name)
    return image

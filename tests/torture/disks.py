"""The images of a run: of either format, and with something at the destination that must not come through."""

from __future__ import annotations

import random
from pathlib import Path

from tests.support.images import blank
from tests.support.qcow2_images import check, run

RAW = "raw"
QCOW2 = "qcow2"
OVERLAY = "overlay"
"""A qcow2 image over a raw one, copied incrementally; on both sides there is the same one."""

KINDS = (RAW, RAW, QCOW2, OVERLAY)
"""As often as they are drawn."""


def format_of(kind: str) -> str:
    return RAW if kind == RAW else QCOW2


def make_source(kind: str, folder: Path, name: str, size: int, chance: random.Random) -> Path:
    """A disk of noise with a hole; an overlay holds the first half of it, and the rest is behind it."""
    raw = folder / f"source-{name}.img"
    hole = size // 4 // 4096 * 4096
    with raw.open("wb") as file:
        file.write(chance.randbytes(hole))
        file.seek(hole, 1)
        file.write(chance.randbytes(size - 2 * hole))
    if kind == RAW:
        return raw
    image = folder / f"source-{name}.qcow2"
    if kind == QCOW2:
        run("convert", "-f", "raw", "-O", "qcow2", raw, image)
        raw.unlink()
        return image
    base = folder / f"base-{name}.img"
    with base.open("wb") as file:
        file.write(chance.randbytes(size // 2 // 4096 * 4096))
        file.write(raw.read_bytes()[file.tell() :])
    run("convert", "-f", "raw", "-O", "qcow2", "-B", base.name, "-F", "raw", raw, image)
    raw.unlink()
    return image


def make_target(kind: str, folder: Path, name: str, size: int, chance: random.Random) -> Path:
    """A disk with the rest of an old one; an overlay is empty."""
    raw = folder / f"target-{name}.img"
    with blank(raw, size).open("r+b") as file:
        file.write(chance.randbytes(size // 3))
    if kind == RAW:
        return raw
    image = folder / f"target-{name}.qcow2"
    if kind == QCOW2:
        run("convert", "-f", "raw", "-O", "qcow2", raw, image)
    else:
        run("create", "-q", "-f", "qcow2", "-b", f"base-{name}.img", "-F", "raw", image, str(size))
    raw.unlink()
    return image


def content(kind: str, image: Path) -> bytes:
    """What a disk holds."""
    if kind == RAW:
        return image.read_bytes()
    raw = image.with_suffix(".raw")
    run("convert", "-f", "qcow2", "-O", "raw", image, raw)
    held = raw.read_bytes()
    raw.unlink()
    return held


def check_image(kind: str, image: Path, *, leaks: bool) -> None:
    """Raises AssertionError for an image in which qemu-img finds something wrong, or more than ``leaks``."""
    if kind != RAW:
        check(image, leaks=leaks)

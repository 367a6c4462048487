"""Raw images with known content, and the options that make drives of them."""

from __future__ import annotations

import random
from pathlib import Path

KIB = 1 << 10
MIB = 1 << 20


def noise(size: int, seed: int = 1) -> bytes:
    """Bytes that are no zeros and can't be guessed, the same for each seed."""
    return random.Random(seed).randbytes(size)


def blank(path: Path, size: int) -> Path:
    """An image of zeros that takes no room."""
    with path.open("wb") as file:
        file.truncate(size)
    return path


def filled(path: Path, size: int, seed: int = 1) -> Path:
    """An image full of noise."""
    path.write_bytes(noise(size, seed))
    return path


def drive(path: Path, name: str = "d0", **more: str) -> list[str]:
    """The option that makes a raw image a drive."""
    keys = {"file": str(path).replace(",", ",,"), "id": name, "format": "raw", "if": "none", **more}
    return ["-drive", ",".join(f"{key}={value}" for key, value in keys.items())]


def same(one: Path, other: Path) -> bool:
    """Whether two images hold the same disk."""
    return one.read_bytes() == other.read_bytes()

"""Headless Chromium: takes a picture of a page, and reads the picture's pixels."""

from __future__ import annotations

import struct
import subprocess
import zlib
from collections import Counter
from pathlib import Path

from tests.support.peers import require
from tests.support.waiting import PATIENCE

Colour = tuple[int, int, int]


def picture(page: Path, image: Path, *, dark: bool = False, size: str = "1000,1200") -> None:
    """Take a picture of a page as PNG, on a light or dark screen."""
    require("chromium")
    options = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--hide-scrollbars",
        "--force-color-profile=srgb",
    ]
    options += [f"--user-data-dir={image.with_suffix('.profile')}", f"--window-size={size}"]
    options += ["--blink-settings=preferredColorScheme=0"] if dark else []
    subprocess.run(
        ["chromium", *options, f"--screenshot={image}", page.resolve().as_uri()],
        check=True,
        capture_output=True,
        timeout=PATIENCE * 3,
    )


def colours(image: Path) -> Counter[Colour]:
    """How often each colour occurs in a PNG of 8 bits a channel, as Chromium writes it."""
    data = image.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, _, depth, kind = struct.unpack_from(">IIBB", data, 16)
    channels = {2: 3, 6: 4}[kind]
    assert depth == 8
    packed, position = b"", 8
    while position < len(data):
        length, name = struct.unpack_from(">I4s", data, position)
        packed += data[position + 8 : position + 8 + length] if name == b"IDAT" else b""
        position += length + 12
    found: Counter[Colour] = Counter()
    for row in _rows(zlib.decompress(packed), width * channels, channels):
        found.update(zip(row[::channels], row[1::channels], row[2::channels], strict=True))
    return found


def _rows(raw: bytes, length: int, step: int) -> list[bytearray]:
    """Undo the filters of the rows (PNG specification, 9.2)."""
    rows: list[bytearray] = []
    above = bytearray(length)
    for start in range(0, len(raw), length + 1):
        kind, row = raw[start], bytearray(raw[start + 1 : start + 1 + length])
        for index in range(length if kind else 0):
            left = row[index - step] if index >= step else 0
            corner = above[index - step] if index >= step else 0
            up = above[index]
            row[index] = (row[index] + _guess(kind, left, up, corner)) & 0xFF
        rows.append(row)
        above = row
    return rows


def _guess(kind: int, left: int, up: int, corner: int) -> int:
    if kind == 4:
        p = left + up - corner
        return min((abs(p - left), 0, left), (abs(p - up), 1, up), (abs(p - corner), 2, corner))[2]
    return (0, left, up, (left + up) // 2)[kind]

"""Sizes and numbers as QEMU's ``strtosz`` reads and a person likes to see them."""

from __future__ import annotations

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40

_SUFFIX = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_SIZE = re.compile(r"(?P<hex>0[xX][0-9a-fA-F]+)|(?P<whole>[0-9]+)(?P<fraction>\.[0-9]*)?")


def parse_size_prefix(text: str, default_suffix: str = "B") -> tuple[int, int]:
    """Read a size at the start of ``text``; return it in bytes, and how many characters it took.

    A decimal number with an optional fraction, or a hexadecimal one, then an optional suffix of B K M G T P
    E in either case; without one ``default_suffix`` counts. Raises ValueError for no number or one past 64
    bits.
    """
    match = _SIZE.match(text)
    if match is None:
        raise ValueError("invalid size")
    end = match.end()
    suffix = text[end : end + 1].upper()
    if suffix in _SUFFIX and not (match["hex"] and suffix in ("B", "E")):
        end += 1
    else:
        suffix = default_suffix
    shift = _SUFFIX[suffix]
    if match["hex"]:
        value = int(match["hex"], 16) << shift
    else:
        value = int(match["whole"]) << shift
        digits = (match["fraction"] or ".")[1:]
        if digits:
            value += (int(digits) << shift) // 10 ** len(digits)
    if value >= 1 << 64:
        raise ValueError("invalid size")
    return value, end


def parse_size(text: str, default_suffix: str = "B") -> int:
    """Read a whole text as a size in bytes. Raises ValueError when it is none."""
    value, end = parse_size_prefix(text, default_suffix)
    if end != len(text):
        raise ValueError("invalid size")
    return value


def human_size(size_bytes: float) -> str:
    """Show a size in the largest binary unit that gives at least 1: ``1.5 GiB``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}" if value < 1000 else f"{value:.0f} {unit}"

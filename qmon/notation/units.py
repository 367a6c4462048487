"""Sizes and numbers as QEMU's ``strtosz`` reads and a person likes to see them."""

from __future__ import annotations

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
INT64_MAX = (1 << 63) - 1

_SUFFIX = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_EXPONENT = re.compile(r"\.[0-9]+[eE][+-]?[0-9]")
_SIZE = re.compile(r"(?P<hex>0[xX][0-9a-fA-F]+)|(?P<whole>[0-9]+)(?P<fraction>\.[0-9]*)?")

SIZE_HINT = (
    "expects a non-negative number below 2^64\n"
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)
"""What QEMU says of a parameter that should be a size."""


class SizeRangeError(ValueError):
    """A size past 64 bits."""


def parse_size_prefix(text: str, default_suffix: str = "B") -> tuple[int, int]:
    """Read a size at the start of ``text``; return it in bytes, and how many characters it took.

    A decimal number with an optional fraction, or a hexadecimal one, then an optional suffix of B K M G T P
    E in either case; without one ``default_suffix`` counts. A fraction is a double, as in QEMU, and rounded
    to the byte. Raises ValueError for no number or a part of a byte, SizeRangeError for one past 64 bits.
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
        if text[match.end() : match.end() + 1] == ".":
            raise ValueError("invalid size")
        value = int(match["hex"], 16) << shift
    else:
        if _EXPONENT.match(text, match.end("whole")):
            raise ValueError("invalid size")
        part = int(float("0" + (match["fraction"] or ".0")) * (1 << 64))  # fixed point, 64 bits
        if part and not shift:
            raise ValueError("invalid size")
        value = (int(match["whole"]) << shift) + ((part << shift) + (1 << 63) >> 64)
    if value >= 1 << 64:
        raise SizeRangeError("invalid size")
    return value, end


def read_size(text: str, position: int, default_suffix: str) -> tuple[int, int]:
    """Read a size at ``position``; return it in bytes, and where it ends. Raises ValueError.

    As QEMU's ``strtosz``: a plus sign may stand before it.
    """
    rest = text[position:]
    sign = rest[:1] == "+"
    value, length = parse_size_prefix(rest[sign:], default_suffix)
    return value, position + sign + length


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

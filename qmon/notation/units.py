"""Numbers and sizes: reads them as QEMU and C do, and formats sizes and times for people."""

from __future__ import annotations

import re

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30
TIB = 1 << 40
INT64_MAX = (1 << 63) - 1
UINT64_MAX = (1 << 64) - 1

_C_SPACE = " \t\n\v\f\r"
_INTEGER = re.compile(
    rf"[{_C_SPACE}]*([+-]?)(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<octal>0[0-7]*)|(?P<decimal>[1-9][0-9]*))"
)
_SIZE = re.compile(
    rf"[{_C_SPACE}]*\+?(?:0[xX](?P<hex>[0-9a-fA-F]+)|(?P<whole>[0-9]+)(?P<fraction>\.[0-9]*)?)"
)
_SUFFIX = {"B": 0, "K": 10, "M": 20, "G": 30, "T": 40, "P": 50, "E": 60}
_EXPONENT = re.compile(r"\.[0-9]+[eE][+-]?[0-9]")

SIZE_HINT = (
    "expects a non-negative number below 2^64\n"
    "Optional suffix k, M, G, T, P or E means kilo-, mega-, giga-, tera-, peta-\n"
    "and exabytes, respectively."
)
"""QEMU's message about a parameter that is not a size."""


class RangeError(ValueError):
    """A number that needs more than 64 bits."""


def read_integer(text: str, position: int = 0) -> tuple[int, int]:
    """Read an integer at ``position`` as C's ``strtol`` does with base 0; return it and where it ends.

    White space and a sign may precede it. If it needs more than 64 bits, the result does too but may be
    another number. Raises ValueError if there is no number.
    """
    match = _INTEGER.match(text, position)
    if match is None:
        raise ValueError("invalid number")
    if match["decimal"]:
        value = _decimal(match["decimal"])
    else:
        value = int(match["hex"], 16) if match["hex"] else int(match["octal"], 8)
    return (-value if match[1] == "-" else value), match.end()


def parse_unsigned(text: str) -> int:
    """Read a whole text as ``qemu_strtou64`` does: a negative number counts down from 2^64.

    Raises ValueError, RangeError if it needs more than 64 bits.
    """
    value, end = read_integer(text)
    if end != len(text):
        raise ValueError("invalid number")
    if abs(value) > UINT64_MAX:
        raise RangeError("invalid number")
    return value & UINT64_MAX


def read_size(text: str, position: int = 0, default_suffix: str = "B") -> tuple[int, int]:
    """Read a size at ``position`` as QEMU's ``strtosz`` does; return it in bytes and where it ends.

    White space and a plus sign may precede it. A size is a decimal number with an optional fraction, or a
    hexadecimal number, and then an optional suffix (B K M G T P E, upper or lower case); without a suffix
    ``default_suffix`` applies. A fraction is read as a double, as in QEMU, and rounded to the byte. If the
    size needs more than 64 bits, the result does too but may be another number; if the digits alone do, the
    size ends after them. Raises ValueError if there is no number, or for a fraction of a byte.
    """
    match = _SIZE.match(text, position)
    if match is None:
        raise ValueError("invalid size")
    if match["hex"]:
        whole, end = int(match["hex"], 16), match.end()
    else:
        whole, end = _decimal(match["whole"]), match.end("whole")
    if whole > UINT64_MAX:
        return whole, end
    if text[end : end + 1] == "." and (match["hex"] or _EXPONENT.match(text, end)):
        raise ValueError("invalid size")
    end = match.end()
    suffix = text[end : end + 1].upper()
    if suffix in _SUFFIX:
        end += 1
    shift = _SUFFIX[suffix if suffix in _SUFFIX else default_suffix]
    part = int(float("0" + (match["fraction"] or ".0")) * (1 << 64))  # fixed point, 64 bits
    if part and not shift:
        raise ValueError("invalid size")
    return (whole << shift) + ((part << shift) + (1 << 63) >> 64), end


def parse_size(text: str, default_suffix: str = "B") -> int:
    """Read a whole text as a size in bytes. Raises ValueError, RangeError if it needs more than 64 bits."""
    value, end = read_size(text, 0, default_suffix)
    if end != len(text):
        raise ValueError("invalid size")
    if value > UINT64_MAX:
        raise RangeError("invalid size")
    return value


def _decimal(digits: str) -> int:
    """Read at most 25 digits, which is more than 64 bits hold: Python refuses very long numbers."""
    return int(digits.lstrip("0")[:25] or "0")


def duration(seconds: float) -> str:
    """Return a time in its two largest units: ``40 s``, ``2 min 5 s``, ``1 h 3 min``."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def human_size(size_bytes: float) -> str:
    """Return a size in the largest binary unit that gives at least 1: ``1.5 GiB``."""
    value = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(value) < 1024 or unit == "TiB":
            break
        value /= 1024
    return f"{value:.3g} {unit}" if value < 999.5 else f"{value:.0f} {unit}"

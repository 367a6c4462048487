"""Reads sizes and floating-point numbers of a monitor line."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

from qmon.hmp.line.words import SPACE, ReadError
from qmon.notation.units import INT64_MAX, read_size

SECONDS = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}
SCALES = {"k": 1 << 10, "K": 1 << 10, "m": 1 << 20, "M": 1 << 20, "g": 1 << 30, "G": 1 << 30}

_DOUBLE = re.compile(
    r"[+-]?(?:inf(?:inity)?|nan|0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE | re.ASCII
)
_HALF_DOUBLE = re.compile(r"[+-]?(?:\.?|0x|(?:\d+\.?\d*|\.\d+)e[+-]?)", re.IGNORECASE | re.ASCII)
_CAN_SHRINK = re.compile(r"[+-]?\d+\.?\d*(?:e(?:-\d*)?)?", re.IGNORECASE | re.ASCII)
"""A number that an exponent, or more digits of a negative exponent, can make smaller."""
_HALF_HEX = re.compile(r"(?<![0-9A-Za-z])0[xX]\Z")


def is_half_hex(text: str, end: int) -> bool:
    """Whether an integer that ends at ``end`` is the 0 of a ``0x`` at the end of the text."""
    return _HALF_HEX.match(text, end - 1) is not None if end else False


def read_bytes(text: str, position: int) -> tuple[int, int]:
    """Read a size, in MiB if it has no suffix; return bytes, and where it ends. Raises ReadError."""
    try:
        value, end = read_size(text, position, "M")
    except ValueError as error:
        raise ReadError("invalid size", is_curable=_is_half_size(text, position)) from error
    if value > INT64_MAX:
        raise ReadError("invalid size", is_curable=_is_half_size(text, position))
    return value, end


def _is_half_size(text: str, position: int) -> bool:
    """Whether the text ends here, or after a number that is too large without a smaller unit."""
    if text[position:] in ("", "+"):
        return True
    units = "K" if text[position:].lstrip("+")[:2] in ("0x", "0X") else "BK"
    for unit in units:
        try:
            value, end = read_size(text, position, unit)
        except ValueError:
            continue
        if value <= INT64_MAX and end == len(text):
            return True
    return False


def read_double(text: str, position: int, units: Mapping[str, float]) -> tuple[float, int]:
    """Read a floating-point number, which one of the units may follow; all units have the same length.

    Returns it in the basic unit, and where it ends. Raises ReadError.
    """
    match = _DOUBLE.match(text, position)
    is_half = _HALF_DOUBLE.fullmatch(text, position) is not None
    if match is None:
        raise ReadError("Number expected", is_curable=is_half)
    digits = match[0]
    try:
        value = float(int(digits, 16)) if "x" in digits.lower() else float(digits)
    except OverflowError:
        value = math.inf
    if not math.isfinite(value):
        raise ReadError("Bad number", is_curable=_CAN_SHRINK.fullmatch(text, position) is not None)
    end = match.end()
    unit = text[end : end + len(next(iter(units)))]
    if unit in units:
        value *= units[unit]
        end += len(unit)
    elif text[end:] == unit and any(each.startswith(unit) for each in units):
        is_half = True
    if end < len(text) and text[end] not in SPACE:
        raise ReadError("Unknown unit suffix", is_curable=is_half)
    return value, end

"""Writes JSON as QEMU does, piece by piece, for any size and depth (QEMU: qobject/json-writer.c). Pure."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from qmon.notation.key_order import in_order

PIECE = 4 << 10
"""The approximate size of a piece, in characters."""
INDENT = "    "

_ESCAPED = re.compile(r"[^ !#-\[\]-~]")
_INVALID = re.compile(
    r"[\udcc0-\udcdf][\udc80-\udcbf]?|[\udce0-\udcef][\udc80-\udcbf]{0,2}|[\udcf0-\udcf7][\udc80-\udcbf]{0,3}"
    r"|[\udcf8-\udcfb][\udc80-\udcbf]{0,4}|[\udcfc\udcfd][\udc80-\udcbf]{0,5}|[\ud800-\udfff\ufdd0-\ufdef]"
)
"""What is not UTF-8: one replacement character stands for the bytes that belong together."""
_SHORT = {"\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "\\": "\\\\"}


def json_pieces(value: Any, *, pretty: bool = False, newline: str = "\n") -> Iterator[str]:
    """Yield the text of a value in pieces of some KiB, so that other tasks can run in between.

    ``pretty``: four spaces a level, and each member on a line of its own. Raises TypeError for what JSON
    can't hold, ValueError for infinity and NaN.
    """
    piece: list[str] = []
    length = 0
    for text in _texts(value, newline if pretty else ""):
        piece.append(text)
        length += len(text)
        if length >= PIECE or len(piece) >= PIECE:
            yield "".join(piece)
            piece, length = [], 0
    yield "".join(piece)


def json_string(text: str) -> str:
    """Return a JSON string with everything but ASCII escaped."""
    return f'"{_escaped(text)}"'


def _texts(value: Any, newline: str) -> Iterator[str]:
    """``newline`` is empty for everything on one line."""
    comma = "," if newline else ", "
    waiting: list[tuple[Iterator[tuple[str | None, Any]], str]] = [(iter([(None, value)]), "")]
    before = ""
    while waiting:
        members, end = waiting[-1]
        line = newline + INDENT * (len(waiting) - 1) if newline else ""
        for key, member in members:
            yield before + (line if len(waiting) > 1 else "")
            before = comma
            if key is not None:
                yield from _string(key)
                yield ": "
            if isinstance(member, dict):
                yield "{"
                waiting.append((iter(in_order(member)), "}"))
            elif isinstance(member, list):
                yield "["
                waiting.append((((None, item) for item in member), "]"))
            elif isinstance(member, str):
                yield from _string(member)
                continue
            else:
                yield _scalar(member)
                continue
            before = ""
            break
        else:
            waiting.pop()
            before = comma
            if newline and len(waiting) > 0:
                yield newline + INDENT * (len(waiting) - 1)
            yield end


def _scalar(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int():
            return str(int(value))
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{value} is no number of JSON")
            return f"{value:.17g}"
    raise TypeError(f"a value of {type(value).__name__} is not JSON serializable")


def _string(text: str) -> Iterator[str]:
    if len(text) <= PIECE:
        yield json_string(text)
        return
    yield '"'
    for start in range(0, len(text), PIECE):
        yield _escaped(text[start : start + PIECE])
    yield '"'


def _escaped(text: str) -> str:
    if not text.isascii():
        text = _INVALID.sub("\ufffd", text)
    return _ESCAPED.sub(_escape, text)


def _escape(match: re.Match[str]) -> str:
    character = match.group()
    if character in _SHORT:
        return _SHORT[character]
    code = ord(character)
    if code & 0xFFFE == 0xFFFE:
        code = 0xFFFD
    if code < 0x10000:
        return f"\\u{code:04X}"
    return f"\\u{0xD7C0 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"

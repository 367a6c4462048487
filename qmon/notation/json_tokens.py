"""The tokens of QEMU's JSON: strings in either kind of quotes, numbers, keywords. Pure.

The error messages are QEMU's (qobject/json-lexer.c, qobject/json-parser.c). Bytes that are not UTF-8 are
surrogates here (PEP 383).
"""

from __future__ import annotations

import re
from enum import Enum, auto
from typing import Any

from qmon.errors import UsageError

KEYWORDS: dict[str, Any] = {"true": True, "false": False, "null": None}
STRUCTURE = "{}[]:,"
BREAK = r"\x00-\x1f\udcfe\udcff"
"""As a class of a regular expression: what ends a string, and refuses the value that it is in."""

_EXPONENT = "(?:(?<=[0-9])[eE][-+]?[0-9]*)?"
_NUMBER_SO_FAR = re.compile(rf"-?(?:0(?:\.[0-9]*{_EXPONENT})?|[1-9][0-9]*(?:\.[0-9]*)?{_EXPONENT})?")
"""In QEMU no exponent follows a zero directly."""
_NO_CHARACTER = r"\ud800-\udfff\ufdd0-\ufdef" + "".join(
    f"{chr(plane + 0xFFFE)}{chr(plane + 0xFFFF)}" for plane in range(0, 0x110000, 0x10000)
)
_HEX = "[0-9a-fA-F]"
_RAW = {quote: re.compile(rf"(?:[^{quote}\\{BREAK}]++|\\[^{BREAK}])*+") for quote in "\"'"}
_GOOD = {
    quote: re.compile(
        rf"(?:[^{quote}\\{BREAK}{_NO_CHARACTER}]++"
        rf"""|\\["'\\/bfnrt]|\\u(?:[0-9a-cA-CeE]{_HEX}{{3}}|[dD][0-7]{_HEX}{{2}}))*+"""
    )
    for quote in "\"'"
}
_ESCAPE = re.compile(r"\\(?:u(....)|(.))")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", '"': '"', "'": "'"}
_BREAKS = re.compile(f"[{BREAK}]")
_LONGEST_ESCAPE = 12
r"""Characters of the longest escape, a surrogate pair ``\uXXXX\uXXXX``."""
_NUL = "\udcc0\udc80"
"""QEMU's own form of a null character, two bytes that UTF-8 does not have."""

_UINT64_MAX = (1 << 64) - 1
_INT64_MIN = -(1 << 63)


class Stop(Enum):
    """Why the reading of a string has stopped."""

    END = auto()
    """At the closing quote, which was consumed."""
    MORE = auto()
    """At the end of the text, or before an escape that is not complete yet."""
    BREAK = auto()
    """At a byte that no string may have, which was consumed."""


def parse_error(what: str) -> UsageError:
    return UsageError(f"JSON parse error, {what}".replace(_NUL, "\0"))


def stray(token: str, character: str) -> UsageError:
    """The error for a character that can't follow the beginning of a token; empty at the end of the text.

    The message has the character's first byte.
    """
    byte = character.encode("utf-8", "surrogateescape")[:1].decode("utf-8", "surrogateescape")
    return parse_error(f"stray '{token}{byte}'".replace("\0", ""))


def number_end(text: str, position: int) -> tuple[int, bool]:
    """Return where the number at ``position`` ends, and whether that is a whole number if no more follows.

    As in QEMU, the unfinished beginning of a longer number is no shorter number, nor is a zero before a
    digit.
    """
    match = _NUMBER_SO_FAR.match(text, position)
    assert match is not None
    number, following = match.group(), text[match.end() : match.end() + 1]
    return match.end(), number[-1:].isdigit() and not (number.lstrip("-") == "0" and following.isdigit())


def number_value(text: str) -> int | float:
    """The value of a number: an integer if it fits 64 bits, else a float, which may be infinite."""
    if len(text) < 25 and text.lstrip("-").isdigit():
        value = int(text)
        if _INT64_MIN <= value <= _UINT64_MAX:
            return value
    return float(text)


def keyword_value(text: str) -> Any:
    """Raises UsageError."""
    if text not in KEYWORDS:
        raise parse_error(f"invalid keyword '{text}'")
    return KEYWORDS[text]


def read_string(text: str, position: int, quote: str) -> tuple[str, int, Stop]:
    """Decode a string from ``position``, which is behind its opening quote or any later piece.

    Returns what was decoded, the position up to which ``text`` was consumed, and why. Raises UsageError for
    an escape or a byte that stands for no character.
    """
    pieces = []
    while True:
        match = _GOOD[quote].match(text, position)
        assert match is not None
        position = match.end()
        pieces.append(_ESCAPE.sub(_simple, match.group()) if "\\" in match.group() else match.group())
        stop = _stop(text, position, quote)
        if stop is not None:
            return "".join(pieces), stop[0], stop[1]
        limit = _limit(text, position, quote)
        if limit is None:
            return "".join(pieces), position, Stop.MORE
        character, position = _special(text, position, limit)
        pieces.append(character)


def skip_string(text: str, position: int, quote: str) -> tuple[int, Stop]:
    """As ``read_string``, but decode nothing and accept every escape."""
    match = _RAW[quote].match(text, position)
    assert match is not None
    return _stop(text, match.end(), quote) or (match.end(), Stop.MORE)


def _stop(text: str, position: int, quote: str) -> tuple[int, Stop] | None:
    """Whether the string stops at ``position``; None before an escape and before what is no character."""
    if position == len(text) or text[position:] == "\\":
        return position, Stop.MORE
    if text[position] == quote:
        return position + 1, Stop.END
    width = 2 if text[position] == "\\" else 1
    if _BREAKS.match(text, position + width - 1):
        return position + width, Stop.BREAK
    return None


def _limit(text: str, position: int, quote: str) -> int | None:
    """Return where the string's token ends, if that is near. None: too little has come to say."""
    match = _RAW[quote].match(text, position, position + 2 * _LONGEST_ESCAPE)
    assert match is not None
    end = match.end()
    if text[end:] in ("", "\\") and end - position < _LONGEST_ESCAPE:
        return None
    return end + (text[end : end + 1] == quote)


def _simple(match: re.Match[str]) -> str:
    digits, letter = match.groups()
    return chr(int(digits, 16)) if digits else _ESCAPES[letter]


def _special(text: str, position: int, limit: int) -> tuple[str, int]:
    """Read an escape or what is no character; return the character and where it ends. Raises UsageError."""
    if text[position] != "\\":
        if not text.startswith(_NUL, position):
            raise parse_error("invalid UTF-8 sequence in string")
        return "\0", position + len(_NUL)
    letter = text[position + 1]
    if letter == "u":
        return _unicode(text, position, limit)
    if letter not in _ESCAPES:
        raise parse_error("invalid escape sequence in string")
    return _ESCAPES[letter], position + 2


def _unicode(text: str, position: int, limit: int) -> tuple[str, int]:
    code = _hex4(text, position + 2)
    end = position + 6
    if code is None:  # QEMU shows four bytes, as far as the token has them
        data = text[position + 2 : min(end, limit)].encode("utf-8", "surrogateescape")[:4]
        shown = text[position : position + 2] + data.decode("utf-8", "surrogateescape")
        raise parse_error(f"{shown} is not a valid Unicode character")
    if 0xD800 <= code <= 0xDBFF and text.startswith("\\u", end):
        low = _hex4(text, end + 2)
        if low is not None and 0xDC00 <= low <= 0xDFFF:
            code = 0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF)
            end += 6
    if 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
        raise parse_error(f"{text[position:end]} is not a valid Unicode character")
    return chr(code), end


def _hex4(text: str, position: int) -> int | None:
    digits = text[position : position + 4]
    return int(digits, 16) if re.fullmatch(f"{_HEX}{{4}}", digits) else None

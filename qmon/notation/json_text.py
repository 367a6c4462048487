"""Reads one JSON value as QEMU reads what a person wrote, and prints one (QEMU: qobject/json-*.c). Pure.

Beyond RFC 8259, strings may be in single quotes. The error messages are QEMU's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qmon.errors import UsageError

MAX_NESTING = 500
"""The deepest nesting of brackets: QEMU accepts 1024, but Python's stack is too small for that."""

_SPACE = " \t\r\n"
_STRUCTURE = "{}[]:,"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?P<fraction>\.[0-9]+)?(?P<exponent>[eE][-+]?[0-9]+)?")
_NUMBER_SO_FAR = re.compile(r"-?(?:(?:0|[1-9][0-9]*)(?:\.(?:[0-9]+(?:[eE][-+]?)?)?|[eE][-+]?)?)?")
_KEYWORD = re.compile(r"[a-z]+")
_STRING = re.compile(r"""(["'])(?:(?!\1)[^\\\x00-\x1f]|\\[^\x00-\x1f])*""")
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", '"': '"', "'": "'"}
_ESCAPED = {_ESCAPES[letter]: f"\\{letter}" for letter in 'bfnrt\\"'}
_KEYWORDS = {"true": True, "false": False, "null": None}
_UINT64_MAX = (1 << 64) - 1
_INT64_MIN = -(1 << 63)


@dataclass(frozen=True, slots=True)
class _Token:
    """``kind``: ``string``, ``number``, ``keyword``, or the character of the structure."""

    kind: str
    text: str


def parse_json(text: str) -> Any:
    """Read a text that is one JSON value. Raises UsageError with QEMU's message."""
    tokens = _tokens(text)
    first = _first_value(tokens)
    if not first:
        raise UsageError("Expecting a JSON value")
    value = _Parser(first).value()
    try:
        rest = next(tokens, None) is not None
    except UsageError:
        rest = True
    if rest:
        raise UsageError("Expecting at most one JSON value")
    return value


def pretty_json(value: Any) -> str:
    """Return a value as QEMU's monitor prints it: four spaces a level, and an empty list on two lines."""
    return _pretty(value, "\n")


def _pretty(value: Any, newline: str) -> str:
    inner = newline + "    "
    if isinstance(value, dict):
        items = [
            f"{inner}{json.dumps(key, ensure_ascii=False)}: {_pretty(value[key], inner)}" for key in value
        ]
        return "{" + ",".join(items) + newline + "}"
    if isinstance(value, list):
        return "[" + ",".join(inner + _pretty(item, inner) for item in value) + newline + "]"
    return _plain(value)


def _plain(value: Any) -> str:
    return _quote(value) if isinstance(value, str) else json.dumps(value)


def _quote(text: str) -> str:
    """Return a JSON string with everything but ASCII escaped, as QEMU does."""
    quoted = ""
    for character in text:
        code = ord(character)
        if 0xD800 <= code <= 0xDFFF:
            code = 0xFFFD  # half of a surrogate pair, or a byte that was not UTF-8
        if character in _ESCAPED:
            quoted += _ESCAPED[character]
        elif 0x20 <= code < 0x7F:
            quoted += character
        elif code < 0x10000:
            quoted += f"\\u{code:04X}"
        else:
            quoted += f"\\u{0xD7C0 + (code >> 10):04X}\\u{0xDC00 + (code & 0x3FF):04X}"
    return f'"{quoted}"'


def _error(what: str) -> UsageError:
    return UsageError(f"JSON parse error, {what}")


def _tokens(text: str) -> Iterator[_Token]:
    position = 0
    while position < len(text):
        character = text[position]
        if character in _SPACE:
            position += 1
            continue
        kind, end = _token_end(text, position, character)
        yield _Token(kind, text[position:end])
        position = end


def _token_end(text: str, position: int, character: str) -> tuple[str, int]:
    """The kind and the end of the token at ``position``. Raises UsageError."""
    if character in _STRUCTURE:
        return character, position + 1
    if character in "\"'":
        match = _STRING.match(text, position)
        assert match is not None
        if text[match.end() : match.end() + 1] != character:
            raise _stray(text[position : match.end()], text[match.end() : match.end() + 1])
        return "string", match.end() + 1
    if character == "-" or character in "0123456789":
        match = _NUMBER.match(text, position)
        so_far = _NUMBER_SO_FAR.match(text, position)
        assert so_far is not None
        # QEMU's tokenizer can't go back: the unfinished beginning of a longer number is an error, not a
        # shorter number. A digit after a leading zero is an error too.
        end = max(so_far.end(), match.end() if match else 0)
        if (
            match is None
            or end > match.end()
            or (match[0].lstrip("-") == "0" and text[end : end + 1].isdigit())
        ):
            raise _stray(text[position:end], text[end : end + 1])
        return "number", end
    match = _KEYWORD.match(text, position)
    if match is None:
        raise _stray("", character)
    return "keyword", match.end()


def _stray(text: str, character: str) -> UsageError:
    """QEMU's message ends with the first byte of the character that ended the text, if any (PEP 383)."""
    byte = character.encode("utf-8", "surrogateescape")[:1].decode("utf-8", "surrogateescape")
    return _error(f"stray '{text}{byte}'")


def _first_value(tokens: Iterator[_Token]) -> list[_Token]:
    """Return the tokens of the first value; only brackets decide where it ends."""
    found = []
    braces = brackets = 0
    for token in tokens:
        found.append(token)
        braces += (token.kind == "{") - (token.kind == "}")
        brackets += (token.kind == "[") - (token.kind == "]")
        if braces + brackets > MAX_NESTING:
            raise UsageError("JSON nesting depth limit exceeded")
        if braces < 0 or brackets < 0 or braces == brackets == 0:
            break
    return found


class _Parser:
    def __init__(self, tokens: list[_Token]) -> None:
        self._tokens = iter(tokens)

    def value(self) -> Any:
        return self._value(self._next())

    def _next(self) -> _Token:
        token = next(self._tokens, None)
        if token is None:
            raise _error("premature EOI")
        return token

    def _value(self, token: _Token) -> Any:
        match token.kind:
            case "{":
                return self._object()
            case "[":
                return self._array()
            case "string":
                return _unescape(token.text)
            case "number":
                return _number(token.text)
            case "keyword":
                if token.text not in _KEYWORDS:
                    raise _error(f"invalid keyword '{token.text}'")
                return _KEYWORDS[token.text]
        raise _error("expecting value")

    def _object(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        token = self._next()
        if token.kind == "}":
            return found
        while True:
            key = self._value(token)
            if not isinstance(key, str):
                raise _error("key is not a string in object")
            if self._next().kind != ":":
                raise _error("missing : in object pair")
            value = self.value()
            if key in found:
                raise _error("duplicate key")
            found[key] = value
            token = self._next()
            if token.kind == "}":
                return found
            if token.kind != ",":
                raise _error("expected separator in dict")
            token = self._next()

    def _array(self) -> list[Any]:
        found: list[Any] = []
        token = self._next()
        if token.kind == "]":
            return found
        while True:
            found.append(self._value(token))
            token = self._next()
            if token.kind == "]":
                return found
            if token.kind != ",":
                raise _error("expected separator in list")
            token = self._next()


def _number(text: str) -> int | float:
    if text.lstrip("-").isdigit() and len(text) < 25:
        value = int(text)
        if _INT64_MIN <= value <= _UINT64_MAX:
            return value
    return float(text)


def _unescape(text: str) -> str:
    if "\\" not in text:
        return text[1:-1]
    found = ""
    position = 1
    while position < len(text) - 1:
        character = text[position]
        position += 1
        if character != "\\":
            found += character
            continue
        letter = text[position]
        position += 1
        if letter == "u":
            code, position = _unicode(text, position)
            found += code
        elif letter in _ESCAPES:
            found += _ESCAPES[letter]
        else:
            raise _error("invalid escape sequence in string")
    return found


def _unicode(text: str, position: int) -> tuple[str, int]:
    r"""Read the four hexadecimal digits at ``position``, and the second ``\uXXXX`` of a surrogate pair.

    Returns the character and the end of what was read.
    """
    code = _hex4(text, position)
    end = position + 4
    if code is not None and 0xD800 <= code <= 0xDBFF and text[end : end + 2] == "\\u":
        low = _hex4(text, end + 2)
        if low is not None and 0xDC00 <= low <= 0xDFFF:
            return chr(0x10000 + ((code & 0x3FF) << 10) + (low & 0x3FF)), end + 6
        end += 6
        code = None
    if code is None or 0xD800 <= code <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE:
        raise _error(f"{text[position - 2 : end]} is not a valid Unicode character")
    return chr(code), end


def _hex4(text: str, position: int) -> int | None:
    digits = text[position : position + 4]
    return int(digits, 16) if re.fullmatch("[0-9a-fA-F]{4}", digits) else None

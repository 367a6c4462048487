"""Reads one JSON value as QEMU reads what a person wrote, and prints one (QEMU: qobject/json-*.c). Pure.

Beyond RFC 8259, strings may be in single quotes. The error messages are QEMU's.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from qmon.errors import UsageError
from qmon.notation.json_builder import JsonBuilder
from qmon.notation.json_tokens import (
    STRUCTURE,
    Stop,
    keyword_value,
    number_end,
    read_string,
    skip_string,
    stray,
)
from qmon.notation.json_writer import json_pieces

MAX_NESTING = 500
"""The deepest nesting of brackets: QEMU accepts 1024, but Python's stack is too small for that."""

_SPACE = " \t\r\n"
_KEYWORD = re.compile(r"[a-z]+")


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
    value = _build(first)
    try:
        rest = next(tokens, None) is not None
    except UsageError:
        rest = True
    if rest:
        raise UsageError("Expecting at most one JSON value")
    return value


def pretty_json(value: Any) -> str:
    """Return a value as QEMU's monitor prints it: four spaces a level, and an empty list on two lines."""
    return "".join(json_pieces(value, pretty=True))


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
    if character in STRUCTURE:
        return character, position + 1
    if character in "\"'":
        end, stop = skip_string(text, position + 1, character)
        if stop is not Stop.END:
            raise stray(text[position : None if stop is Stop.MORE else end], "")
        return "string", end
    if character == "-" or character in "0123456789":
        end, is_whole = number_end(text, position)
        if not is_whole:
            raise stray(text[position:end], text[end : end + 1])
        return "number", end
    match = _KEYWORD.match(text, position)
    if match is None:
        raise stray("", character)
    return "keyword", match.end()


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


def _build(tokens: list[_Token]) -> Any:
    """Build the value that tokens are. Raises UsageError."""
    builder = JsonBuilder()
    for token in tokens:
        match token.kind:
            case "string":
                builder.expect_value()
                builder.scalar(read_string(token.text, 1, token.text[0])[0])
            case "number":
                builder.number(token.text)
            case "keyword":
                builder.expect_value()
                builder.scalar(keyword_value(token.text))
            case _:
                builder.structure(token.kind)
    return builder.finish()

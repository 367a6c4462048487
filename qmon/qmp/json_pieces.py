"""Writes a JSON value of any size and depth, piece by piece. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

PIECE = 4 << 10
"""The approximate size of a piece, in characters."""


def json_pieces(value: Any) -> Iterator[str]:
    """Yield the text of ``json.dumps`` in pieces of some KiB, so that other tasks can run in between."""
    piece: list[str] = []
    length = 0
    for text in _texts(value):
        piece.append(text)
        length += len(text)
        if length >= PIECE or len(piece) >= PIECE:
            yield "".join(piece)
            piece, length = [], 0
    yield "".join(piece)


def _texts(value: Any) -> Iterator[str]:
    waiting: list[tuple[Iterator[tuple[str | None, Any]], str]] = [(iter([(None, value)]), "")]
    before = ""
    while waiting:
        members, end = waiting[-1]
        for key, member in members:
            yield before
            before = ", "
            if key is not None:
                yield from _string(key)
                yield ": "
            if isinstance(member, dict):
                yield "{"
                waiting.append((iter(member.items()), "}"))
            elif isinstance(member, list):
                yield "["
                waiting.append((((None, item) for item in member), "]"))
            elif isinstance(member, str):
                yield from _string(member)
                continue
            else:
                yield json.dumps(member)
                continue
            before = ""
            break
        else:
            waiting.pop()
            before = ", "
            yield end


def _string(text: str) -> Iterator[str]:
    yield '"'
    for start in range(0, len(text), PIECE):
        yield json.dumps(text[start : start + PIECE])[1:-1]
    yield '"'

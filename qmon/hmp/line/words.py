"""Reads words and quoted strings of a monitor line, and finds its comment."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.errors import QmonError

SPACE = " \t\n\v\f\r"
"""White space as in C's ``isspace``."""
WORD_BYTES_MAX = 1023

_SPACES = re.compile(rf"[{SPACE}]*")
_BARE_WORD = re.compile(rf"[^{SPACE}]+")
_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}
_HALF_WORD = re.compile(rf"""[{SPACE}]*(?:"(?:[^"\\]|\\[nr\\'"])*\\?)?""")


class ReadError(QmonError):
    """Text can't be read; ``str()`` is QEMU's message, which may be empty.

    ``is_curable``: whether more text after it could correct the error.
    """

    def __init__(self, problem: str, *, is_curable: bool = False) -> None:
        super().__init__(problem)
        self.is_curable = is_curable


@dataclass(frozen=True, slots=True)
class Word:
    """A word or a quoted string: its text, where it ends, and whether it was quoted."""

    text: str
    end: int
    quoted: bool


def skip_space(text: str, position: int) -> int:
    """Return the first position from ``position`` on without white space."""
    match = _SPACES.match(text, position)
    return match.end() if match is not None else position


def read_word(text: str, position: int) -> Word | None:
    """Read a word or a ``"quoted string"`` at ``position``; it is cut after 1023 bytes.

    Returns None if there is none, an escape is unknown or the closing quote is missing.
    """
    position = skip_space(text, position)
    if position == len(text):
        return None
    if text[position] != '"':
        match = _BARE_WORD.match(text, position)
        assert match is not None
        return Word(_cut(match[0]), match.end(), False)
    position += 1
    pieces: list[str] = []
    while position < len(text):
        character = text[position]
        position += 1
        if character == '"':
            return Word(_cut("".join(pieces)), position, True)
        if character == "\\":
            if text[position : position + 1] not in _ESCAPES:
                return None
            character = _ESCAPES[text[position]]
            position += 1
        pieces.append(character)
    return None


def is_half_word(text: str, position: int) -> bool:
    """Whether ``read_word`` fails there only because the text ends: before a word, or inside quotes."""
    return _HALF_WORD.fullmatch(text, position) is not None


def first_byte(text: str) -> str:
    """Return the first byte of a text, which QEMU's messages show as a character; "" for an empty text.

    A byte that is not ASCII is a surrogate (PEP 383).
    """
    return text[:1].encode("utf-8", "surrogateescape")[:1].decode("utf-8", "surrogateescape")


def _cut(text: str) -> str:
    if len(text) * 4 <= WORD_BYTES_MAX:
        return text
    return text.encode("utf-8", "surrogateescape")[:WORD_BYTES_MAX].decode("utf-8", "surrogateescape")


def comment_start(text: str, begin: int = 0) -> int:
    """Return where a comment starts in the line that begins at ``begin``; the text's end if there is none.

    ``#`` starts a comment at the beginning of the line or after white space, outside quotes. As in
    ``read_word``, a quote opens a string only at the beginning of a word.
    """
    if "#" not in text:
        return len(text)
    end = begin
    while True:
        position = skip_space(text, end)
        if position == len(text) or (text[position] == "#" and (position > end or end == begin)):
            return position
        word = read_word(text, position)
        if word is None:
            return len(text)
        end = word.end

"""Words and quoted strings of a monitor line, and where its comment begins."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.hmp.tables.table import SPACE, skip_space

WORD_BYTES_MAX = 1023
_ESCAPES = {"n": "\n", "r": "\r", "\\": "\\", "'": "'", '"': '"'}


@dataclass(frozen=True, slots=True)
class Word:
    """A word or a quoted string: its text, where it ends, and whether it was quoted."""

    text: str
    end: int
    quoted: bool


def read_word(text: str, position: int) -> Word | None:
    """Read a word or a ``"quoted string"`` at ``position``; what is past 1023 bytes is cut off.

    None when there is nothing, an escape is unknown or the closing quote is missing.
    """
    position = skip_space(text, position)
    if position == len(text):
        return None
    if text[position] != '"':
        end = position
        while end < len(text) and text[end] not in SPACE:
            end += 1
        return Word(_cut(text[position:end]), end, False)
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


def first_byte(text: str) -> str:
    """The first byte of a text, as QEMU's messages name a character; "" of none.

    Where that byte alone is no character it is a surrogate (PEP 383).
    """
    return text[:1].encode("utf-8", "surrogateescape")[:1].decode("utf-8", "surrogateescape")


def _cut(text: str) -> str:
    if len(text) * 4 <= WORD_BYTES_MAX:
        return text
    return text.encode("utf-8", "surrogateescape")[:WORD_BYTES_MAX].decode("utf-8", "surrogateescape")


def comment_start(text: str) -> int:
    """Where a ``#`` starts a comment; the line's end if nowhere.

    It starts one at the beginning of the line or behind white space, outside quotes. A quote opens a string
    only where a word could begin, as ``read_word`` has it.
    """
    end = 0
    while True:
        position = skip_space(text, end)
        if position == len(text) or (text[position] == "#" and (position > end or end == 0)):
            return position
        word = read_word(text, position)
        if word is None:
            return len(text)
        end = word.end

"""Undoes what word processors, web pages and chats do to the characters of a command line."""

from __future__ import annotations

import html
import re
from collections.abc import Callable

from qmon.hmp.line.arguments import PieceKind
from qmon.hmp.line.reading import read_line
from qmon.hmp.line.words import comment_start
from qmon.hmp.tables.table import Tables

NO_WIDTH = "\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\u2066-\u2069\ufeff"
"""Soft hyphens, characters without a width, and those that set the direction.

This and the next constants are for character classes.
"""
DASHES = "\u2010-\u2015\u2212"
ODD_SPACES = "\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"

_NO_WIDTH = re.compile(f"[{NO_WIDTH}]+")
_NO_WIDTH_BESIDE_ASCII = re.compile(
    f"(?<![^\0-\x7f])[{NO_WIDTH}]++|(?<![{NO_WIDTH}])[{NO_WIDTH}]++(?![^\0-\x7f])"
)
_ODD_SPACE = re.compile(f"[{ODD_SPACES}]")
_ODD_SPACE_AT_EDGE = re.compile(f"(?<![^ ])[{ODD_SPACES}]++|(?<![{ODD_SPACES}])[{ODD_SPACES}]++(?![^ ])")
_DASH = re.compile(f"[{DASHES}]+")
_DASH_OF_FLAG = re.compile(f"(?<!\\S)[{DASHES}]+(?=[A-Za-z](?!\\S))")
_DASH_OF_OPTION = re.compile(f"(?<!\\S)[{DASHES}]+(?=[a-z]{{2}})")
DOUBLE_QUOTES = "\u201c-\u201f"
SINGLE_QUOTES = "\u2018-\u201b"
_QUOTED = tuple(
    (
        re.compile(
            rf"(?<![^\s,:{{\[('{SINGLE_QUOTES}])[{marks}]([^{marks}{plain}]*)[{marks}](?![^\s,:}}\])'{SINGLE_QUOTES}])"
        ),
        rf"{plain}\1{plain}",
    )
    for marks, plain in ((DOUBLE_QUOTES, '"'), (SINGLE_QUOTES, "'"))
)
"""Quotes around a whole word, or around a string of JSON: elsewhere they may belong to a name."""
_STRING = re.compile(r'("(?:[^"\\]|\\.)*+"?)')
_ENTITY = re.compile(r"&(?:gt|lt|amp|quot|apos|nbsp|ndash|mdash|[lr][sd]quo|#\d{1,5}|#x[0-9a-fA-F]{1,4});")
_SUSPECT = re.compile(f"[{NO_WIDTH}{ODD_SPACES}{DASHES}{DOUBLE_QUOTES}{SINGLE_QUOTES}]|&[a-z#]")

_Mend = Callable[[str], str]


def in_plain_characters(text: str) -> str:
    """Return a text with plain spaces, dashes and quotes, except inside its ``"quoted strings"``."""
    return _outside_strings(text, _plain)


def without_entities(text: str) -> str:
    """Return a text with the characters that HTML entities such as ``&gt;`` stand for."""
    return html.unescape(text) if _ENTITY.search(text) else text


def is_suspect(line: str) -> bool:
    """Whether a line contains any of the characters that ``mended`` may replace."""
    return _SUSPECT.search(line) is not None


def mended(tables: Tables, line: str) -> str:
    """Return a command's line with plain characters, where it is certain that they are meant.

    They are: if the line can't be read otherwise; for a dash, if it begins a flag of the command; for quotes,
    if they surround a whole word; for white space and characters without a width, if a word can't hold them.
    """
    if not is_suspect(line):
        return line
    end = comment_start(line)
    line, comment = _outside_strings(line[:end], _surely), line[end:]
    if read_line(tables, line).error is None:
        better = _outside_strings(line, lambda piece: _DASH_OF_FLAG.sub("-", piece))
        is_better = _flags(tables, better) > _flags(tables, line)
    else:
        better = without_entities(in_plain_characters(line))
        is_better = read_line(tables, better).error is None
    return (better if is_better else line) + comment


def _surely(text: str) -> str:
    text = _ODD_SPACE_AT_EDGE.sub(" ", _NO_WIDTH_BESIDE_ASCII.sub("", text))
    for pattern, quoted in _QUOTED:
        text = pattern.sub(quoted, text)
    return text


def _plain(text: str) -> str:
    text = _ODD_SPACE.sub(" ", _NO_WIDTH.sub("", text))
    for pattern, quoted in _QUOTED:
        text = pattern.sub(quoted, text)
    return _DASH.sub("-", _DASH_OF_OPTION.sub("--", text))


def _outside_strings(text: str, mend: _Mend) -> str:
    """Apply ``mend`` to what is not a string in plain double quotes."""
    pieces = _STRING.split(text)
    return "".join(piece if number % 2 else mend(piece) for number, piece in enumerate(pieces))


def _flags(tables: Tables, line: str) -> int:
    """Return how many flags a line has, 0 if it can't be read."""
    readings = list(read_line(tables, line).nested)
    if any(reading.error is not None for reading in readings):
        return 0
    pieces = [piece for reading in readings for piece in reading.arguments.pieces]
    return sum(piece.kind is PieceKind.FLAG for piece in pieces)

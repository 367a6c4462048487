"""How text fits on the screen: a picture, the answer of a line that is repeated in place; a notice. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from prompt_toolkit.utils import get_cwidth

_ROWS_LEFT_FREE = 3
"""For a bar or a question, a line that is typed, and the toolbar."""


def fit(text: str, rows: int, columns: int) -> str:
    """Return as many lines as fit on a screen; then the last row says how many are not shown.

    A line that is longer than ``columns`` takes several rows. Some rows of the screen are left free.
    """
    rows -= _ROWS_LEFT_FREE
    pieces = [
        (number, piece) for number, line in enumerate(text.split("\n")) for piece in _cut(line, columns)
    ]
    if len(pieces) <= rows:
        return "\n".join(piece for _, piece in pieces)
    shown = pieces[: max(0, rows - 1)]
    missing = pieces[-1][0] + 1 - pieces[len(shown)][0]
    note = f"({missing} more line{'s' * (missing != 1)}: the screen is too small)"
    return "\n".join([*(piece for _, piece in shown), next(_cut(note, columns))])


def wrapped(text: str, columns: int) -> str:
    """Break the lines that are wider than a row at spaces; a word that is wider stays whole."""
    return "\n".join("\n".join(_words(line, columns)) for line in text.split("\n"))


def _words(line: str, columns: int) -> list[str]:
    if get_cwidth(line) <= columns:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    return textwrap.wrap(
        line, columns, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
    ) or [""]


def _cut(line: str, columns: int) -> Iterator[str]:
    """Yield pieces of a line that are at most ``columns`` wide; "" of an empty one."""
    start = width = 0
    for position, character in enumerate(line):
        each = get_cwidth(character)
        if width + each > columns and position > start:
            yield line[start:position]
            start, width = position, 0
        width += each
    yield line[start:]

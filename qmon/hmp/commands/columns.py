"""Text in columns, for a terminal of 80."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from functools import partial

WIDTH = 78
_CELL_MAX = 40
"""A longer cell has a line of its own."""

_wrap = partial(textwrap.wrap, width=WIDTH, break_long_words=False, break_on_hyphens=False)


def columns(rows: Sequence[Sequence[str]], indent: str = "  ") -> list[str]:
    """Return rows of equally many cells as lines: the last cells are wrapped, the others aligned."""
    longest = [max(map(len, cells)) for cells in zip(*rows, strict=True)][:-1]
    widths = [min(each, _CELL_MAX) + 2 for each in longest]
    hanging = indent + " " * sum(widths)
    lines = []
    for *cells, last in rows:
        head = indent + "".join(cell.ljust(width) for cell, width in zip(cells, widths, strict=True))
        if len(head) > len(hanging):
            lines.append(head)
            head = hanging
        lines += _wrap(last, initial_indent=head, subsequent_indent=hanging) or [head.rstrip()]
    return lines


def paragraph(text: str, indent: str = "") -> list[str]:
    """Return a text as lines."""
    return _wrap(text, initial_indent=indent, subsequent_indent=indent)

"""Lays out text in rows and columns for a screen of some width. Pure."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

LABEL_COLUMNS = 13

_GAP = "  "


def labelled(label: str, text: str, columns: int) -> Iterator[str]:
    """Yield ``label: text`` with the text in a column of its own, on as many rows as it needs."""
    indent = " " * LABEL_COLUMNS
    rows = textwrap.wrap(
        text,
        max(columns - 1, LABEL_COLUMNS + 20),
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    first, *rest = rows or [indent]
    yield f"{label}:".ljust(LABEL_COLUMNS) + first[LABEL_COLUMNS:]
    yield from rest


def table(rows: Sequence[Sequence[str]], sides: str) -> Iterator[str]:
    """Yield aligned rows; ``sides`` has ``<`` or ``>`` for each column: where its texts stand."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = (f"{cell:{side}{width}}" for cell, side, width in zip(row, sides, widths, strict=True))
        yield _GAP.join(cells).rstrip()


def shortened(name: str, columns: int) -> str:
    """Return a name with ``...`` in place of its middle if it is longer than ``columns``, at least 5."""
    if len(name) <= columns:
        return name
    kept = columns - 3
    return f"{name[: kept - kept // 2]}...{name[len(name) - kept // 2 :]}"

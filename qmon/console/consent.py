"""Says which lines of a pasted text will run, before the question whether to run them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from prompt_toolkit.utils import get_cwidth

from qmon.hmp.line.reading import Reading
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.pasting.doctor import OtherLine, Pasted
from qmon.notation.plain_text import one_line

_LINES_MAX = 12
_LAST_LINES = 3
_LEFT_OUT_MAX = 4
_WORDS_MAX = 100
"""How many words of a line that is no command are tried as the beginning of one with a secret."""
_WORD = re.compile(r"[\w-]+")

_Read = Callable[[str], Reading]
_Item = TypeVar("_Item")


def question(pasted: Pasted) -> str:
    """Return the question whether the lines run."""
    return "Run it?" if len(pasted.lines) == 1 else "Run them?"


def summary(pasted: Pasted, read: _Read, columns: int) -> str:
    """Return the lines that run, the one that goes to the prompt, and some of those left out.

    A line that can't be read is followed by the error. Lines are clipped to ``columns``; secrets are masked.
    """

    def command(line: str) -> str:
        reading = read(line)
        shown = without_secrets(reading)
        wrong = (reading.error or "").split("\n")[0]
        return f"{shown}  ! {shown.clean(wrong)}" if wrong else str(shown)

    def other(line: OtherLine) -> str:
        return f"line {line.number}: {_masked(line.text, read)}"

    tail = [pasted.tail] if pasted.tail else []
    count = len(pasted.lines) + len(tail)
    total = count + len(pasted.left_out)
    verb = "is a command" if count == 1 else "are commands"
    rows = [f"Pasted text: {count:,} of {total:,} lines {verb}{':' if count else '.'}"]
    rows += _excerpt(pasted.lines, command, _LINES_MAX, _LAST_LINES)
    if tail:
        rows += ["Left at the prompt:", *_excerpt(tail, command, 1)]
    if pasted.left_out:
        rows += ["Left out:", *_excerpt(pasted.left_out, other, _LEFT_OUT_MAX)]
    return "\n".join(_clipped(row, columns) for row in rows)


def _excerpt(items: Sequence[_Item], show: Callable[[_Item], str], most: int, last: int = 0) -> list[str]:
    """Return at most ``most`` indented rows. Of more items show the first, a count, and the ``last`` ones."""
    if len(items) <= most:
        return [f"  {show(item)}" for item in items]
    first = most - last - 1
    rest = len(items) - first - last
    return [
        *(f"  {show(item)}" for item in items[:first]),
        f"  ... {rest:,} more lines ..." if last else f"  ... {rest:,} more lines",
        *(f"  {show(item)}" for item in items[len(items) - last :]),
    ]


def _masked(text: str, read: _Read) -> str:
    """Return a line that is no command, without the secrets of a command that may be in it."""
    for word in list(_WORD.finditer(text))[:_WORDS_MAX]:
        shown = without_secrets(read(text[word.start() :]))
        if shown.secrets:
            return shown.clean(text)
    return text


def _clipped(row: str, columns: int) -> str:
    row = one_line(row)
    if get_cwidth(row) < columns:
        return row
    while get_cwidth(row) > columns - 4:
        row = row[: -max(1, (get_cwidth(row) - columns) // 2)]
    return f"{row.rstrip()}..."

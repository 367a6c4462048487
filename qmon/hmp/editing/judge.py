"""What is wrong with a line that is being typed: QEMU's message, unless further typing may cure it."""

from __future__ import annotations

from collections.abc import Iterator

from qmon.hmp.line.arguments import FormatDefaults, outline_arguments, read_arguments
from qmon.hmp.line.transcript import prompt_end
from qmon.hmp.line.words import comment_start
from qmon.hmp.person import LineError
from qmon.hmp.tables.table import (
    Command,
    Lookup,
    Tables,
    look_up,
)

_ENDINGS = ("", "1", '"', 'n"', "n", "f", "ff", "'", "A'", "=1")
"""What ends a quoted string, a number, a character, a switch or an option that is half written."""


def complaint(tables: Tables, line: str) -> str | None:
    """The message that a line can't escape any more, whatever is typed behind it; None when it may be good.

    A line with a comment behind it is taken to be whole. The message is its first line.
    """
    text = line[prompt_end(line) :]
    whole = text[: comment_start(text)]
    found = look_up(tables.main, whole)
    if found is None:
        return None
    if found.command is None:
        if len(whole) == len(text) == found.end and may_become_a_name(tables, found):
            return None
        return f"unknown command: '{whole[: found.end].strip()}'"
    try:
        read_arguments(found.command, whole, found.start, FormatDefaults())
    except LineError as error:
        if len(whole) == len(text) and is_curable(found.command, text, found.start):
            return None
        return str(error).split("\n")[0] or None
    return None


def is_curable(command: Command, text: str, start: int) -> bool:
    """Whether arguments that can't be read could be, with more behind them."""
    if outline_arguments(command, text, start).bad is None:
        return True
    return any(
        outline_arguments(command, text + ending, start).bad is None for ending in _endings(command, text)
    )


def _endings(command: Command, text: str) -> Iterator[str]:
    letters = [parameter.letter for parameter in command.parameters if parameter.is_flag]
    for closed in range(text.count("(") + 1):
        for ending in (*_ENDINGS, *letters):
            yield ending + ")" * closed


def may_become_a_name(tables: Tables, found: Lookup) -> bool:
    """Whether a name that no table has is the beginning of one."""
    table = tables.at(found.path[:-1])
    return table is not None and any(name.startswith(found.path[-1]) for name in table.names())

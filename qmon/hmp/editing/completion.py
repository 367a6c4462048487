"""Completion: returns what may follow at the end of a line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qmon.hmp.editing.completers import Choice, Place, choices_at
from qmon.hmp.editing.word_lists import FLAGS
from qmon.hmp.line.reading import DEPTH_MAX, Reading, read_typed
from qmon.hmp.line.words import comment_start, read_word, skip_space
from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.signature import Parameter
from qmon.hmp.tables.table import Table

_NAMES = "help_completion"
"""The table's ``.command_completion`` of arguments that are names of commands."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``text`` may replace the line from ``start`` on; ``meaning`` explains it in a few words."""

    text: str
    start: int
    meaning: str
    is_flag: bool = False


async def complete(monitor: Monitor, text: str) -> list[Suggestion]:
    """Return suggestions for the end of ``text``, the line up to the cursor; sorted, flags first.

    Raises CommandError if a query fails.
    """
    if comment_start(text) < len(text):
        return []
    start = _last_word(text)
    typed = text[start:]
    flags, choices = await _choices(monitor, read_typed(monitor.tables, text[:start]), typed)
    suggestions = [Suggestion(text, start, meaning, is_flag=True) for text, meaning in flags]
    suggestions += [Suggestion(text, start, meaning) for text, meaning in choices]
    return [suggestion for suggestion in suggestions if suggestion.text.startswith(typed)]


async def _choices(
    monitor: Monitor, before: Reading, typed: str
) -> tuple[Sequence[Choice], Sequence[Choice]]:
    """Return the flags and the other words that may follow ``before`` and begin with ``typed``."""
    *around, reading = before.nested
    if reading.awaits_line and len(around) == DEPTH_MAX:
        return [], []
    table = monitor.tables.main if reading.awaits_line else reading.next_table
    if table is not None:
        return [], _names(table)
    if reading.command is None:
        return [], []
    arguments, entry = reading.arguments, reading.command.entry
    shown_name = " ".join([*(name.text for name in reading.names[:-1]), entry.names[0]])
    flags = _flags(shown_name, arguments.flags)
    if arguments.awaited is None or arguments.bad is not None:
        return flags, []
    if entry.completion == _NAMES:
        table = read_typed(monitor.tables, reading.text[reading.start :]).next_table
        return flags, _names(table) if table is not None else []
    place = Place(monitor.target, shown_name, arguments.awaited, arguments.values, typed)
    return flags, await choices_at(place, entry.completion)


def _last_word(text: str) -> int:
    """Return where the last word of the text begins; the text's end after white space."""
    position = skip_space(text, 0)
    while position < len(text):
        word = read_word(text, position)
        if word is None or word.end == len(text):
            return position
        position = skip_space(text, word.end)
    return position


def _names(table: Table) -> list[Choice]:
    choices = []
    for name in table.names():
        command = table.find(name)
        assert command is not None
        choices.append((name, command.entry.help.split("\n")[0]))
    return choices


def _flags(command: str, flags: Sequence[Parameter]) -> list[Choice]:
    meanings = FLAGS.get(command, {})
    choices = [(f"-{flag.letter}", meanings.get(flag.letter, flag.key)) for flag in flags]
    return choices + [(flag.word, f"the same as -{flag.letter}") for flag in flags if flag.word]

"""What could stand at the end of a line: text in, suggestions out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from qmon.hmp.editing.completers import Choice, Place, choices_at
from qmon.hmp.editing.word_lists import FLAGS
from qmon.hmp.line.arguments import Outline, outline_arguments
from qmon.hmp.line.nesting import DEPTH_MAX, find_innermost
from qmon.hmp.line.words import comment_start, read_word
from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.signature import Parameter
from qmon.hmp.tables.table import (
    Lookup,
    Table,
    look_up,
    skip_space,
)

_NAMES, _LINE = "help_completion", "line_completion"
"""The table's ``.command_completion`` of arguments that are commands' names, and of one that is a line."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``text`` could stand in place of what the line holds from ``start`` on; ``meaning`` is a few words."""

    text: str
    start: int
    meaning: str
    is_flag: bool = False


async def complete(monitor: Monitor, text: str) -> list[Suggestion]:
    """What could stand at the end of ``text``, the line up to the cursor; sorted, flags first.

    Raises CommandError when the target was asked what it has and failed.
    """
    if comment_start(text) < len(text) or find_innermost(monitor.tables, text).depth > DEPTH_MAX:
        return []
    start = _last_word(text)
    before, typed = text[:start], text[start:]
    table = _table_for(monitor, before)
    choices: Iterable[Choice]
    flags: list[Choice] = []
    if table is not None:
        choices = _names(table)
    else:
        found = look_up(monitor.tables.main, before)
        if found is None or found.command is None or found.end == len(before):
            return []
        outline = outline_arguments(found.command, before, found.start)
        command = _shown_name(found)
        flags = _flags(command, outline.flags)
        choices = []
        if outline.awaited is not None and outline.bad is None:
            completer = found.command.entry.completion
            arguments = before[found.start :]
            if completer == _NAMES:
                choices = _help(monitor, arguments)
            elif completer == _LINE and outline.awaited.kind == "S":
                inner = _behind_pieces(outline, before)
                return [_moved(each, len(inner)) for each in await complete(monitor, text[len(inner) :])]
            else:
                place = Place(monitor.target, command, outline.awaited, arguments, typed)
                choices = await choices_at(place, completer)
    suggestions = [Suggestion(text, start, meaning, is_flag=True) for text, meaning in flags]
    suggestions += [Suggestion(text, start, meaning) for text, meaning in choices]
    return [suggestion for suggestion in suggestions if suggestion.text.startswith(typed)]


def _shown_name(found: Lookup) -> str:
    """A command by the first of its names, behind those of the tables above it."""
    assert found.command is not None
    return " ".join([*found.path[:-1], found.command.entry.names[0]])


def _behind_pieces(outline: Outline, before: str) -> str:
    """The text before the argument that is a line of its own."""
    line = next((piece.start for piece in outline.pieces if piece.parameter == outline.awaited), len(before))
    return before[:line]


def _moved(suggestion: Suggestion, by: int) -> Suggestion:
    return replace(suggestion, start=suggestion.start + by)


def _last_word(text: str) -> int:
    """Where the word begins that the text ends in; its end behind white space."""
    position = skip_space(text, 0)
    while position < len(text):
        word = read_word(text, position)
        if word is None or word.end == len(text):
            return position
        position = skip_space(text, word.end)
    return position


def _table_for(monitor: Monitor, before: str) -> Table | None:
    """The table in which the next word is looked up; None when arguments come next."""
    found = look_up(monitor.tables.main, before)
    if found is None:
        return monitor.tables.main
    if found.command is not None and found.end < found.start == len(before):
        return found.command.sub_table
    return None


def _names(table: Table) -> list[Choice]:
    choices = []
    for name in table.names():
        command = table.find(name)
        assert command is not None
        choices.append((name, command.entry.help.split("\n")[0]))
    return choices


def _flags(command: str, flags: list[Parameter]) -> list[Choice]:
    meanings = FLAGS.get(command, {})
    choices = [(f"-{flag.letter}", meanings.get(flag.letter, flag.key)) for flag in flags]
    return choices + [(flag.word, f"the same as -{flag.letter}") for flag in flags if flag.word]


def _help(monitor: Monitor, arguments: str) -> list[Choice]:
    table = _table_for(monitor, arguments)
    return _names(table) if table is not None else []

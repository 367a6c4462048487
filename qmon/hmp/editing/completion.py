"""Completion: returns what may follow at the end of a line."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice

from qmon.hmp.commands import works
from qmon.hmp.commands.guide import ALL, PAGES
from qmon.hmp.editing.completers import choices_at
from qmon.hmp.editing.place import Choice, Place
from qmon.hmp.editing.word_lists import FLAGS
from qmon.hmp.handlers import EVERYTHING
from qmon.hmp.line.reading import DEPTH_MAX, Reading, read_typed
from qmon.hmp.line.words import comment_start, read_word, skip_space
from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.signature import Parameter
from qmon.hmp.tables.table import Table
from qmon.hmp.tables.topics import default_topics
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Target, well_formed

SUGGESTIONS_MAX = 1000
"""The most suggestions; QEMU has 3,000 trace events."""

_HELP_FLAG = re.compile(rf"\s*(?:{EVERYTHING}|{PAGES})\s+")
_NAMES = "help_completion"
"""The table's ``.command_completion`` of arguments that are names of commands."""


@dataclass(frozen=True, slots=True)
class Suggestion:
    """``text`` may replace the line from ``start`` on; ``meaning`` explains it in a few words."""

    text: str
    start: int
    meaning: str
    is_flag: bool = False


async def complete(monitor: Monitor, text: str, *, tasks: bool = False) -> list[Suggestion]:
    """Return suggestions for the end of ``text``, the line up to the cursor: arguments, then flags.

    Commands without effect on the target come last. With ``tasks`` the words of ``help`` for a person follow
    ``help``. Raises CommandError if a query fails.
    """
    if comment_start(text) < len(text):
        return []
    start = _last_word(text)
    typed = text[start:]
    with well_formed():
        flags, choices = await _choices(monitor, read_typed(monitor.tables, text[:start]), typed, tasks)
    suggestions = [Suggestion(text, start, meaning) for text, meaning in choices]
    suggestions += [Suggestion(text, start, meaning, is_flag=True) for text, meaning in flags]
    fitting = (
        each for each in suggestions if each.text.startswith(typed) and one_line(each.text) == each.text
    )
    return list(islice(fitting, SUGGESTIONS_MAX))


async def _choices(
    monitor: Monitor, before: Reading, typed: str, tasks: bool
) -> tuple[Sequence[Choice], Sequence[Choice]]:
    """Return the flags and the other words that may follow ``before`` and begin with ``typed``."""
    *around, reading = before.nested
    if reading.awaits_line and len(around) == DEPTH_MAX:
        return [], []
    table = monitor.tables.main if reading.awaits_line else reading.next_table
    if table is not None:
        return [], _names(table, monitor.target)
    if reading.command is None:
        return [], []
    arguments, entry = reading.arguments, reading.command.entry
    shown_name = " ".join([*(name.text for name in reading.names[:-1]), entry.names[0]])
    flags = _flags(shown_name, arguments.flags)
    if arguments.awaited is None or arguments.bad is not None:
        return flags, []
    if entry.completion == _NAMES:
        return flags, _help_words(monitor, reading.text[reading.start :], tasks)
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


def _help_words(monitor: Monitor, before: str, tasks: bool) -> list[Choice]:
    """Return the words that may follow ``before``, the first words after ``help``."""
    while (flag := _HELP_FLAG.match(before)) is not None:
        before = before[flag.end() :]
    table = read_typed(monitor.tables, before).next_table
    if table is None:
        return []
    if not tasks or table is not monitor.tables.main:
        return _names(table, monitor.target)
    topics = {topic.name: topic.about for topic in default_topics() if not topic.needs}
    words = [(ALL, "every command"), *topics.items()]
    return _names(table, monitor.target, [word for word in words if table.find(word[0]) is None])


def _names(table: Table, target: Target, words: Sequence[Choice] = ()) -> list[Choice]:
    """Return a table's names, then ``words``, then the names without effect on the target."""
    useful, useless = [], []
    for name in table.names():
        command = table.find(name)
        assert command is not None
        sentence = command.entry.help.split("\n")[0]
        if works(command, target):
            useful.append((name, sentence))
        else:
            useless.append((name, f"no effect here: {sentence}"))
    return [*useful, *words, *useless]


def _flags(command: str, flags: Sequence[Parameter]) -> list[Choice]:
    meanings = FLAGS.get(command, {})
    choices = [(f"-{flag.letter}", meanings.get(flag.letter, flag.key)) for flag in flags]
    return choices + [(flag.word, f"the same as -{flag.letter}") for flag in flags if flag.word]

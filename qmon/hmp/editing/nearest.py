"""Says how a line that has failed may be meant: a near name, the command inside other text, or ``help``."""

from __future__ import annotations

from difflib import SequenceMatcher, get_close_matches

from qmon.errors import QmonError
from qmon.hmp.commands import works
from qmon.hmp.editing.completion import complete
from qmon.hmp.line.arguments import PieceKind
from qmon.hmp.line.reading import Reading
from qmon.hmp.monitor import Monitor
from qmon.hmp.pasting.doctor import read_pasted
from qmon.hmp.tables.table import Table
from qmon.hmp.tables.topics import default_topics, find_topic
from qmon.qmp.target import Target

LIKENESS = 0.7
"""The least likeness of two names, from 0 to 1: below it more suggestions are wrong than right."""

_USEFUL = 0.05
"""How much less alike a command may be that has an effect on the target than one without."""

_GOES_ON = (":", "+", "=", "/")
"""Ends of words that are only the beginning of an argument: an argument that begins so is not an error."""


async def advice(monitor: Monitor, reading: Reading) -> str | None:
    """Return a line to show below the error of a line that has failed; None if there is nothing to say."""
    if reading.command is None and (inside := _command_inside(monitor, reading.line)) is not None:
        return f"Remove the quotes and prompts: '{inside}'"
    near = await nearest(monitor, reading)
    if near is not None:
        return f"Did you mean '{near}'?"
    if reading.command is not None:
        return None
    return f"Type '{' '.join(['help', *(name.text for name in reading.names[:-1])])}' to find a command"


def _command_inside(monitor: Monitor, line: str) -> str | None:
    """Return the command in a line with quotes, prompts or bullets around it; None if it is not known."""
    pasted = read_pasted(monitor.tables, f"{line}\n")
    if len(pasted.lines) != 1 or not pasted.is_changed:
        return None
    command = pasted.lines[0]
    return command if monitor.read(command).error is None else None


async def nearest(monitor: Monitor, reading: Reading) -> str | None:
    """Return the name nearest to the wrong word in a line that has failed; None if there is none.

    It replaces a command, or an argument whose possible values the completion knows.
    """
    if reading.command is None:
        *above, name = [name.text for name in reading.names] or [""]
        near = _nearest_command(monitor.target, reading.table, name)
        if near is None and not above and (topic := find_topic(default_topics(), [name])) is not None:
            return f"help {topic.name}"
        return None if near is None else " ".join([*above, near])
    for piece in reading.arguments.pieces:
        if piece.kind is not PieceKind.ARGUMENT or piece.parameter.kind not in "Bs":
            continue
        word = str(reading.arguments.values[piece.parameter.key])
        try:
            known = [suggestion.text for suggestion in await complete(monitor, reading.text[: piece.start])]
        except QmonError:
            return None  # the query failed: there is only the line's own error
        known = [name for name in known if not name.startswith("-") and not name.endswith(_GOES_ON)]
        if word not in known and "," not in word and (near := _like(word, known)) is not None:
            return near
    return None


def _nearest_command(target: Target, table: Table, name: str) -> str | None:
    """Return the command that people mean who type ``name``, or whose name is most like it."""
    meant = table.find_also(name)
    if meant is not None:
        return meant.entry.names[0]
    likeness = SequenceMatcher(b=name)

    def weight(near: str) -> float:
        likeness.set_seq1(near)
        command = table.find(near)
        return likeness.ratio() + (_USEFUL if command is not None and works(command, target) else 0)

    return max(get_close_matches(name, table.names(), cutoff=LIKENESS), key=weight, default=None)


def _like(word: str, names: list[str]) -> str | None:
    return next(iter(get_close_matches(word, names, n=1, cutoff=LIKENESS)), None)

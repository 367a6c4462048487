"""What somebody who typed a name that nothing has may have meant."""

from __future__ import annotations

from difflib import get_close_matches

from qmon.errors import QmonError
from qmon.hmp.editing.completion import complete
from qmon.hmp.line.arguments import PieceKind, outline_arguments
from qmon.hmp.line.words import comment_start, read_word
from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.table import look_up

LIKENESS = 0.7
"""How alike two names must be, from 0 to 1: below it a suggestion is more often wrong than right."""

_GOES_ON = (":", "+", "=", "/")
"""How a word ends that is only the beginning of an argument: one that begins so is not wrong for that."""


async def nearest(monitor: Monitor, line: str) -> str | None:
    """The name nearest to what is wrong in a line that failed; None when nothing is near.

    A command, or a word in its arguments of which the completion knows what it could be.
    """
    text = line[: comment_start(line)]
    found = look_up(monitor.tables.main, text)
    if found is None:
        return None
    if found.command is None:
        table = monitor.tables.at(found.path[:-1])
        near = _like(found.path[-1], table.names()) if table is not None else None
        return None if near is None else " ".join([*found.path[:-1], near])
    for piece in outline_arguments(found.command, text, found.start).pieces:
        if piece.kind is not PieceKind.ARGUMENT or piece.parameter.kind not in "Bs":
            continue
        word = read_word(text, piece.start)
        if word is None:
            continue
        try:
            known = [suggestion.text for suggestion in await complete(monitor, text[: piece.start])]
        except QmonError:
            return None  # the target can't say what it has: the line's own error is all there is to tell
        known = [name for name in known if not name.startswith("-") and not name.endswith(_GOES_ON)]
        if word.text not in known and "," not in word.text and (near := _like(word.text, known)) is not None:
            return near
    return None


def _like(word: str, names: list[str]) -> str | None:
    return next(iter(get_close_matches(word, names, n=1, cutoff=LIKENESS)), None)

"""Suggests the nearest name for a name that does not exist."""

from __future__ import annotations

from difflib import get_close_matches

from qmon.errors import QmonError
from qmon.hmp.editing.completion import complete
from qmon.hmp.line.arguments import PieceKind
from qmon.hmp.line.reading import Reading
from qmon.hmp.monitor import Monitor

LIKENESS = 0.7
"""The least likeness of two names, from 0 to 1: below it more suggestions are wrong than right."""

_GOES_ON = (":", "+", "=", "/")
"""Ends of words that are only the beginning of an argument: an argument that begins so is not an error."""


async def nearest(monitor: Monitor, reading: Reading) -> str | None:
    """Return the name nearest to the wrong word in a line that has failed; None if there is none.

    It replaces a command, or an argument whose possible values the completion knows.
    """
    if reading.command is None:
        *above, name = [name.text for name in reading.names] or [""]
        near = _like(name, reading.table.names())
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


def _like(word: str, names: list[str]) -> str | None:
    return next(iter(get_close_matches(word, names, n=1, cutoff=LIKENESS)), None)

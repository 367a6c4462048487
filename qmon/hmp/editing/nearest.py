"""What somebody who typed a name that nothing has may have meant."""

from __future__ import annotations

from difflib import get_close_matches

from qmon.errors import QmonError
from qmon.hmp.editing.completion import complete
from qmon.hmp.line.arguments import PieceKind
from qmon.hmp.line.reading import Reading
from qmon.hmp.monitor import Monitor

LIKENESS = 0.7
"""How alike two names must be, from 0 to 1: below it a suggestion is more often wrong than right."""

_GOES_ON = (":", "+", "=", "/")
"""How a word ends that is only the beginning of an argument: one that begins so is not wrong for that."""


async def nearest(monitor: Monitor, reading: Reading) -> str | None:
    """The name nearest to what is wrong in a line that failed; None when nothing is near.

    A command, or a word in its arguments of which the completion knows what it could be.
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
            return None  # the target can't say what it has: the line's own error is all there is to tell
        known = [name for name in known if not name.startswith("-") and not name.endswith(_GOES_ON)]
        if word not in known and "," not in word and (near := _like(word, known)) is not None:
            return near
    return None


def _like(word: str, names: list[str]) -> str | None:
    return next(iter(get_close_matches(word, names, n=1, cutoff=LIKENESS)), None)

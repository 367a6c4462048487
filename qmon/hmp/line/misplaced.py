"""Says how a line may be meant: a flag's word is misspelt or too late, or the command is one of QMP."""

from __future__ import annotations

import re
from collections.abc import Container
from difflib import get_close_matches

from qmon.hmp.line.arguments import EXTRANEOUS, PieceKind
from qmon.hmp.line.reading import Reading

_LIKENESS = 0.66
"""The least likeness, from 0 to 1: ``bkl`` is like ``blk``."""
_COMMAND = re.compile(r"(?<!\S)(?P<quote>'?)(?P<command>exec:.*?)(?P=quote)\s*$")
"""A command as a migration's address, bare or in single quotes, which are no quotes here."""


def qmp_hint(reading: Reading, qmp_commands: Container[str]) -> str | None:
    """Return a line to show below the error of a command that only QMP has; None for any other line."""
    if reading.command is not None or len(reading.names) != 1:
        return None
    name = reading.names[0].text
    return f"a QMP command: 'qmp {name} {{...}}'" if name in qmp_commands else None


def word_hint(reading: Reading) -> str | None:
    """Return a line to show below the error of such a line; None if nothing is known to be meant."""
    command, arguments = reading.command, reading.arguments
    if command is None or arguments.bad is None or not (arguments.error or "").endswith(EXTRANEOUS):
        return None
    flags = [each for each in command.parameters if each.is_flag and not each.takes_value]
    words = [each.word for each in flags if each.word]
    late, begin = reading.text[arguments.bad :].split(), reading.names[-1].end
    if set(late) <= {*words, *(f"-{each.letter}" for each in flags)}:
        given = reading.text[begin : arguments.bad].split()
        return f"Write it so: '{' '.join([reading.text[:begin].strip(), *late, *given])}'"
    if (address := _COMMAND.search(reading.text, begin)) is not None:
        quoted = address["command"].replace("\\", "\\\\").replace('"', '\\"')
        return f'Put the address in double quotes: {reading.text[: address.start()].strip()} "{quoted}"'
    for piece in arguments.pieces:
        if piece.kind is PieceKind.ARGUMENT:
            near = get_close_matches(reading.text[piece.start : piece.end].strip(), words, 1, _LIKENESS)
            return f"Did you mean '{near[0]}'?" if near else None
    return None

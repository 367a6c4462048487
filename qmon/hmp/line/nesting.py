"""Lines within lines: ``time watch 1 info status``."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.hmp.handlers import find_inner
from qmon.hmp.line.arguments import outline_arguments
from qmon.hmp.tables.table import Tables, look_up

DEPTH_MAX = 10
"""No more lines than these may stand around another: each takes its room on the stack."""


@dataclass(frozen=True, slots=True)
class Nesting:
    """The innermost line of a text begins at ``start``; ``depth`` lines are around it.

    With ``broken`` there is none, or it lies deeper than any may: what is from ``start`` on can't be told.
    """

    depth: int
    start: int
    broken: bool = False


def find_innermost(tables: Tables, text: str) -> Nesting:
    """Look into a text for the lines in it. Raises HxError alone."""
    depth = start = 0
    while depth <= DEPTH_MAX:
        found = look_up(tables.main, text[start:])
        if found is None or found.command is None or found.command.entry.handler is None:
            return Nesting(depth, start)
        key = find_inner(found.command.entry.handler)
        if key is None:
            return Nesting(depth, start)
        pieces = outline_arguments(found.command, text[start:], found.start).pieces
        if not pieces or pieces[-1].parameter.key != key:
            return Nesting(depth, start + found.start, broken=True)
        start += pieces[-1].start
        depth += 1
    return Nesting(depth, start, broken=True)

"""A table entry's ``args_type`` read into parameters: ``detach:-d,blk:-b|blk,uri:s``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.errors import UsageError

WORD_KINDS = "FBs"
EXPRESSION_KINDS = "ilM"

_PIECE = re.compile(
    r"""(?P<key>[\w][\w-]*):
        (?: -(?P<letter>\w)(?P<value>s)?(?:\|(?P<word>[\w-]+))?
          | (?P<kind>[FBsSO/ilMoTb])(?P<extra>[?.]?) )""",
    re.VERBOSE,
)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a command.

    ``kind`` is the table's type letter, ``-`` for a flag. A flag has its ``letter``, maybe a bare ``word``
    that means the same, and ``takes_value`` when a string follows it. ``optional`` is the table's ``?``,
    ``dotted`` its ``.``: written after a dot, or not at all.
    """

    key: str
    kind: str
    optional: bool = False
    dotted: bool = False
    letter: str = ""
    takes_value: bool = False
    word: str = ""

    @property
    def is_flag(self) -> bool:
        return self.kind == "-"


def parse_signature(args_type: str) -> tuple[Parameter, ...]:
    """Read an ``args_type``. Raises UsageError naming the piece that can't be read."""
    parameters = []
    for piece in args_type.split(",") if args_type else ():
        match = _PIECE.fullmatch(piece.strip())
        if match is None:
            raise UsageError(f"expected 'key:type' in the args_type '{args_type}', found '{piece}'")
        if match["letter"]:
            parameters.append(
                Parameter(
                    match["key"],
                    "-",
                    optional=True,
                    letter=match["letter"],
                    takes_value=bool(match["value"]),
                    word=match["word"] or "",
                )
            )
        else:
            extra = match["extra"]
            parameters.append(Parameter(match["key"], match["kind"], extra == "?", extra == "."))
    return tuple(parameters)

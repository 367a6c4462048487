"""Reads a table entry's ``args_type`` into parameters: ``detach:-d,blk:-b|blk,uri:s``.

Tables of early 2009 have no keys: ``-ds`` is a flag ``-d`` and a string.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from qmon.errors import UsageError

Value = str | int | float | bool
Values = dict[str, Value]
"""A line's arguments by key; an argument that is not given has no key."""

WORD_KINDS = "FBs"
EXPRESSION_KINDS = "ilM"

_PIECE = re.compile(
    r"""(?P<key>[\w][\w-]*):
        (?: -(?P<letter>\w)(?P<value>s)?(?:\|(?P<word>[\w-]+))?
          | (?P<kind>[FBsSO/ilMoTbf])(?P<extra>[?.]?) )""",
    re.VERBOSE,
)
_KEYLESS = re.compile(r"-(?P<letter>\w)|(?P<kind>[FBsil/])(?P<extra>[?.]?)")


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of a command.

    ``kind`` is the table's type letter, ``-`` for a flag. A flag has a ``letter``, and may have a bare
    ``word`` with the same meaning; ``takes_value`` means that a string follows it. ``optional`` is the
    table's ``?``. ``dotted`` is its ``.``: the argument is given after a dot, or not at all.
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

    @property
    def may_be_absent(self) -> bool:
        return self.is_flag or self.optional or self.dotted

    def __str__(self) -> str:
        """Return it as the table writes it."""
        if not self.is_flag:
            return f"{self.key}:{self.kind}{'?' * self.optional}{'.' * self.dotted}"
        return f"{self.key}:-{self.letter}{'s' * self.takes_value}{'|' * bool(self.word)}{self.word}"


def parse_signature(args_type: str) -> tuple[Parameter, ...]:
    """Read an ``args_type``. Raises UsageError naming the part that can't be read."""
    if ":" not in args_type:
        return _parse_keyless(args_type)
    parameters = []
    for piece in args_type.split(","):
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


def _parse_keyless(args_type: str) -> tuple[Parameter, ...]:
    parameters: list[Parameter] = []
    position = 0
    while position < len(args_type):
        match = _KEYLESS.match(args_type, position)
        if match is None:
            raise UsageError(f"expected 'key:type' in the args_type '{args_type}'")
        position = match.end()
        key, letter, extra = f"arg{len(parameters) + 1}", match["letter"], match["extra"]
        if letter:
            parameters.append(Parameter(key, "-", optional=True, letter=letter))
        else:
            parameters.append(Parameter(key, match["kind"], extra == "?", extra == "."))
    return tuple(parameters)

"""What of a line or a QMP command is a secret and is not written down: passwords, the data of secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from qmon.hmp.handlers import ANSWER, MASK, find_conceal
from qmon.hmp.line.arguments import (
    FormatDefaults,
    PieceKind,
    outline_arguments,
    read_arguments,
)
from qmon.hmp.line.nesting import find_innermost
from qmon.hmp.line.words import comment_start
from qmon.hmp.person import LineError
from qmon.hmp.tables.table import Tables, look_up
from qmon.qmp.target import Arguments

SECRET_PROPERTIES = frozenset(("data", "rawdata", "password"))
"""Properties of objects that hold a secret."""

_WORD = re.compile(r"""[^\s"',={}\[\]:]+""")
_NO_PASSWORDS = ("vnc", "spice", "fail", "disconnect", "keep")
"""What stands beside a password; anything else may be one in a wrong place."""
_PASSWORDS = frozenset(("password", "passwd"))
_SECRET_OPTION = re.compile(rf"((?:^|,)(?:{'|'.join(sorted(SECRET_PROPERTIES))})=)(?:[^,]|,,)*")


@dataclass(frozen=True, slots=True)
class Shown:
    """A line as it may be written down, and whether what it answers may be, too."""

    line: str
    answer: bool = True
    secrets: tuple[str, ...] = ()
    """The words that are not to be seen, the longest first."""

    def clean(self, text: str) -> str:
        """A text that the line said, an error for one, without what is secret in the line."""
        for word in self.secrets:
            text = text.replace(word, MASK)
        return text


def without_secrets(tables: Tables, line: str) -> Shown:
    """A line with ``***`` in place of each secret. Of one that can't be read all arguments may be secrets."""
    whole = line[: comment_start(line)]
    nesting = find_innermost(tables, whole)
    before, text = whole[: nesting.start], whole[nesting.start :]
    if nesting.broken:
        return _shown_without(line, before + MASK) if text else Shown(line)
    found = look_up(tables.main, text)
    if found is None or found.command is None or found.command.entry.handler is None:
        return Shown(line)
    conceal = find_conceal(found.command.entry.handler)
    if conceal is None:
        return Shown(line)
    try:
        values = read_arguments(found.command, text, found.start, FormatDefaults())
    except LineError:
        known = before + text[: found.start]
        return _shown_without(line, known + MASK) if text[found.start :] else Shown(line)
    hidden = conceal(tables, values)
    if not hidden:
        return Shown(line)
    for piece in reversed(outline_arguments(found.command, text, found.start).pieces):
        if piece.kind is PieceKind.ARGUMENT and piece.parameter.key in hidden:
            text = text[: piece.start] + hidden[piece.parameter.key] + text[piece.end :]
    return _shown_without(line, before + text.rstrip(), ANSWER not in hidden)


def _shown_without(line: str, shown: str, answer: bool = True) -> Shown:
    secrets = set(_WORD.findall(line)) - set(_WORD.findall(shown))
    return Shown(shown, answer, tuple(sorted(secrets, key=len, reverse=True)))


def has_secrets(tables: Tables, line: str) -> bool:
    """Whether a line holds a secret, as far as that can be told."""
    return bool(without_secrets(tables, line).secrets)


def options_without_secrets(text: str) -> str:
    """The same for the options of an object: ``secret,id=s0,data=...``."""
    return _SECRET_OPTION.sub(rf"\1{MASK}", text)


def request_without_secrets(tables: Tables, command: str, arguments: Arguments) -> Shown:
    """The same for a QMP command, as JSON in a line."""
    whole: dict[str, Any] = {"execute": command}
    shown: dict[str, Any] = {"execute": command}
    if arguments:
        whole["arguments"] = dict(arguments)
        shown["arguments"] = arguments_without_secrets(tables, command, arguments)
    answer = not answers_a_secret(tables, command, arguments)
    return _shown_without(json.dumps(whole), json.dumps(shown), answer)


def arguments_without_secrets(tables: Tables, command: str, arguments: Arguments) -> dict[str, Any]:
    """The same for a QMP command's arguments."""
    shown = _without_passwords(arguments)
    if command == "object-add":
        shown |= {name: MASK for name in arguments if name in SECRET_PROPERTIES}
    elif command == "set_password":
        shown |= {name: MASK for name in arguments if arguments[name] not in _NO_PASSWORDS}
    elif command == "qom-set" and arguments.get("property") in SECRET_PROPERTIES:
        shown["value"] = MASK
    elif command == "human-monitor-command":
        line = arguments.get("command-line")
        shown["command-line"] = without_secrets(tables, line).line if isinstance(line, str) else line
    return shown


def answers_a_secret(tables: Tables, command: str, arguments: Arguments) -> bool:
    """Whether what a QMP command returns is a secret."""
    if command == "human-monitor-command":
        line = arguments.get("command-line")
        return isinstance(line, str) and not without_secrets(tables, line).answer
    return command == "qom-get" and arguments.get("property") in SECRET_PROPERTIES


def _without_passwords(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: MASK if name in _PASSWORDS else _shown(inner) for name, inner in value.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_passwords(value)
    return [_shown(item) for item in value] if isinstance(value, list) else value

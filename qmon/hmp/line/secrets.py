"""What of a line or a QMP command is a secret and is not written down: passwords, the data of secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from qmon.errors import UsageError
from qmon.hmp.line.arguments import PieceKind
from qmon.hmp.line.reading import Reading, read_line
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables
from qmon.notation.json_text import parse_json
from qmon.qmp.target import Arguments

MASK = "***"
"""Stands for a secret wherever a line is written down."""
ANSWER = ""
"""The key by which a _Conceal says that the command's answer is a secret."""
SECRET_PROPERTIES = frozenset(("data", "rawdata", "password"))
"""Properties of objects that hold a secret."""

_WORD = re.compile(r"""[^\s"',={}\[\]:]+""")
_NO_PASSWORDS_AT = {"protocol": ("vnc", "spice"), "connected": ("fail", "disconnect", "keep")}
"""What stands beside a password; anything else may be one in a wrong place."""
_NO_PASSWORDS = (*_NO_PASSWORDS_AT["protocol"], *_NO_PASSWORDS_AT["connected"])
_PASSWORDS = frozenset(("password", "passwd"))
_SECRET_OPTION = re.compile(rf"((?:^|,)(?:{'|'.join(sorted(SECRET_PROPERTIES))})=)(?:[^,]|,,)*")

_Conceal = Callable[[Tables, Values], Mapping[str, str]]
"""From a line's arguments to what is written down in place of those that are secrets, by their keys."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A line as it may be written down, and whether what it answers may be, too."""

    line: str
    """Without a comment."""
    comment: str = ""
    answer: bool = True
    secrets: tuple[str, ...] = ()
    """The words that are not to be seen, the longest first."""

    def __str__(self) -> str:
        """The whole line, without white space around it."""
        return (self.line + self.comment).strip()

    def clean(self, text: str) -> str:
        """A text that the line said, an error for one, without what is secret in the line."""
        for word in self.secrets:
            text = text.replace(word, MASK)
        return text


def without_secrets(reading: Reading) -> Shown:
    """A line with ``***`` in place of each secret. Of one that can't be read all arguments may be secrets."""
    before, inner = "", reading
    while inner.inner is not None:
        before += inner.text[: inner.arguments.pieces[-1].start]
        inner = inner.inner
    whole = Shown(reading.text[: reading.end], reading.text[reading.end :])
    command = inner.command
    conceal = _CONCEALS.get(command.entry.handler or "") if command is not None else None
    if command is None or (conceal is None and command.inner_line is None):
        return whole
    if conceal is None or inner.arguments.error is not None:
        known = before + inner.text[: inner.start]
        return _shown_without(reading.text, known + MASK) if inner.start < inner.end else whole
    hidden = conceal(reading.tables, inner.arguments.values)
    if not hidden:
        return whole
    text = inner.text[: inner.end]
    for piece in reversed(inner.arguments.pieces):
        if piece.kind is PieceKind.ARGUMENT and piece.parameter.key in hidden:
            text = text[: piece.start] + hidden[piece.parameter.key] + text[piece.end :]
    return _shown_without(reading.text, before + text.rstrip(), ANSWER not in hidden)


def _shown_without(line: str, shown: str, answer: bool = True) -> Shown:
    secrets = set(_WORD.findall(line)) - set(_WORD.findall(shown))
    return Shown(shown, "", answer, tuple(sorted(secrets, key=lambda word: (-len(word), word))))


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
        shown["command-line"] = _qemus_line(tables, line).line if isinstance(line, str) else line
    return shown


def answers_a_secret(tables: Tables, command: str, arguments: Arguments) -> bool:
    """Whether what a QMP command returns is a secret."""
    if command == "human-monitor-command":
        line = arguments.get("command-line")
        return isinstance(line, str) and not _qemus_line(tables, line).answer
    return command == "qom-get" and arguments.get("property") in SECRET_PROPERTIES


def _qemus_line(tables: Tables, line: str) -> Shown:
    return without_secrets(read_line(tables, line, comments=False))


def _without_passwords(value: Mapping[str, Any]) -> dict[str, Any]:
    return {name: MASK if name in _PASSWORDS else _shown(inner) for name, inner in value.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Mapping):
        return _without_passwords(value)
    return [_shown(item) for item in value] if isinstance(value, list) else value


def _conceal_options(tables: Tables, values: Values) -> Mapping[str, str]:
    text = str(values["object"])
    if not text.startswith("{"):
        shown = _SECRET_OPTION.sub(rf"\1{MASK}", text)
    else:
        try:
            shown = json.dumps(arguments_without_secrets(tables, "object-add", parse_json(text)))
        except UsageError:  # what in it is a secret can't be told
            shown = MASK
    return {"object": shown} if MASK in shown else {}


def _conceal_value(tables: Tables, values: Values) -> Mapping[str, str]:
    if values["property"] not in SECRET_PROPERTIES:
        return {}
    return {"value": MASK} if "value" in values else {ANSWER: MASK}


def _conceal_passwords(tables: Tables, values: Values) -> Mapping[str, str]:
    """All that could be one, where the arguments are in a wrong order."""
    return {key: MASK for key in values if values[key] not in _NO_PASSWORDS_AT.get(key, ())}


def _conceal_vnc_password(tables: Tables, values: Values) -> Mapping[str, str]:
    return {"arg": MASK} if values["device"] == "vnc" else {}


def _conceal_qmp(tables: Tables, values: Values) -> Mapping[str, str]:
    if "arguments" not in values:
        return {}
    try:
        arguments = parse_json(str(values["arguments"]))
    except UsageError:
        return {"arguments": MASK}
    if not isinstance(arguments, dict):
        return {"arguments": MASK}
    name = str(values["name"])
    shown = arguments_without_secrets(tables, name, arguments)
    hidden = {"arguments": json.dumps(shown)} if shown != arguments else {}
    return {**hidden, ANSWER: MASK} if answers_a_secret(tables, name, arguments) else hidden


_CONCEALS: dict[str, _Conceal] = {
    "hmp_change": _conceal_vnc_password,
    "hmp_info_history": lambda tables, values: {ANSWER: MASK},
    "hmp_object_add": _conceal_options,
    "hmp_qmp": _conceal_qmp,
    "hmp_qom_get": _conceal_value,
    "hmp_qom_set": _conceal_value,
    "hmp_set_password": _conceal_passwords,
}
"""By the table's ``.cmd``."""

"""Hides secrets in lines and QMP commands before they are recorded: passwords, and data of secret objects."""

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
"""Replaces a secret in a recorded line."""
ANSWER = ""
"""The key in the result of a _Conceal which says that the command's answer is secret."""
SECRET_PROPERTIES = frozenset(("data", "rawdata", "password"))
"""Properties of objects that contain a secret."""

_WORD = re.compile(r"""[^\s"',={}\[\]:]+""")
_NO_PASSWORDS_AT = {"protocol": ("vnc", "spice"), "connected": ("fail", "disconnect", "keep")}
"""Valid words of the other arguments; any other word there may be a password in the wrong place."""
_NO_PASSWORDS = (*_NO_PASSWORDS_AT["protocol"], *_NO_PASSWORDS_AT["connected"])
_PASSWORDS = frozenset(("password", "passwd"))
_SECRET_OPTION = re.compile(rf"((?:^|,)(?:{'|'.join(sorted(SECRET_PROPERTIES))})=)(?:[^,]|,,)*")

_Conceal = Callable[[Tables, Values], Mapping[str, str]]
"""Takes a line's arguments; returns replacements for those that are secret, by key."""


@dataclass(frozen=True, slots=True)
class Shown:
    """A line as it may be recorded, and whether its answer may be recorded."""

    line: str
    """The line without its comment."""
    comment: str = ""
    answer: bool = True
    secrets: tuple[str, ...] = ()
    """The secret words, longest first."""

    def __str__(self) -> str:
        """Return the whole line without white space around it."""
        return (self.line + self.comment).strip()

    def clean(self, text: str) -> str:
        """Return a text about the line, such as its error, without the line's secrets."""
        for word in self.secrets:
            text = text.replace(word, MASK)
        return text


def without_secrets(reading: Reading) -> Shown:
    """Replace each secret of a line by ``***``, and all arguments if the line can't be read."""
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
    """Return a QMP command as one line of JSON, with its secrets replaced."""
    whole: dict[str, Any] = {"execute": command}
    shown: dict[str, Any] = {"execute": command}
    if arguments:
        whole["arguments"] = dict(arguments)
        shown["arguments"] = arguments_without_secrets(tables, command, arguments)
    answer = not answers_a_secret(tables, command, arguments)
    return _shown_without(json.dumps(whole), json.dumps(shown), answer)


def arguments_without_secrets(tables: Tables, command: str, arguments: Arguments) -> dict[str, Any]:
    """Return a QMP command's arguments with their secrets replaced."""
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
    """Whether the result of a QMP command is secret."""
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
        except UsageError:  # it is not known what in it is secret
            shown = MASK
    return {"object": shown} if MASK in shown else {}


def _conceal_value(tables: Tables, values: Values) -> Mapping[str, str]:
    if values["property"] not in SECRET_PROPERTIES:
        return {}
    return {"value": MASK} if "value" in values else {ANSWER: MASK}


def _conceal_passwords(tables: Tables, values: Values) -> Mapping[str, str]:
    """Conceal everything that may be a password, in case the arguments are in the wrong order."""
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
"""The secrets of commands, by the table's ``.cmd``."""

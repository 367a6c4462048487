"""QMP messages at random, by the schema that the program itself gives: right, wrong and garbled."""

from __future__ import annotations

import json
import random
from collections.abc import Mapping, Sequence
from typing import Any

_LEFT_OUT = ("quit", "human-monitor-command")
"""``quit`` ends the program; lines of the monitor come from a list."""

_LINES = (
    *(
        "info block",
        "info status",
        "help",
        "print 0x",
        "nbd_server_start",
        "block_resize d0 1M",
        "stop",
        "cont",
    ),
    *(
        "qom-get /x y",
        'qemu-io d0 "read 0 512"',
        "drive_add 0 if=none,file=n",
        "info migrate",
        "é\x01",
        '"',
        "x " * 99,
    ),
)
_TEXTS = (
    *(
        "",
        "d0",
        "d1",
        "n0",
        "#block012",
        "raw",
        "qcow2",
        "f0.img",
        "no/such/file",
        "unix:u.sock",
        "tcp:127.0.0.1:1",
    ),
    *(
        "a" * 300,
        "é😀",
        "\x00",
        "\x7f\x1b[31m",
        "%s%n",
        "../..",
        "json:{",
        "-1",
        "0x10",
        "1G",
        "on",
        "\u202e",
    ),
)
_NUMBERS = (
    0,
    1,
    -1,
    7,
    512,
    513,
    1 << 20,
    1 << 31,
    (1 << 63) - 1,
    -(1 << 63),
    (1 << 64) - 1,
    1 << 64,
    10**30,
)
_ODD: tuple[Any, ...] = (None, True, 0.1, -0.0, 1e300, [], {}, [[]], {"": None}, "text", 5)
_ATOMS = (
    *(character.encode() for character in "{}[]:,\"'\\!%N \n\te-."),
    *(
        b"\x00",
        b"\x01",
        b"\x7f",
        b"\xff",
        b"\x80",
        b"\xc3",
        b"\xe2\x82",
        b"\xc0\x80",
        b"\xed\xa0\x80",
        b"\\ud800",
    ),
    *(b"[" * 1100, b'{"a":' * 300, b"9" * 2000, b"1e999", b"NaN", b"'x'", b'"' + b"y" * 5000, b"\\u12"),
)
_DEPTH_MAX = 4
_WRONG = 0.1


class Messages:
    """Makes messages; ``schema`` is the result of ``query-qmp-schema``."""

    def __init__(self, schema: Sequence[Mapping[str, Any]], chance: random.Random) -> None:
        self._types = {entry["name"]: entry for entry in schema}
        self._commands = sorted(
            name
            for name, entry in self._types.items()
            if entry["meta-type"] == "command" and name not in _LEFT_OUT
        )
        self._chance = chance

    def bytes(self) -> bytes:
        """Return a message, or what once was one."""
        chance = self._chance
        data = json.dumps(self.message(), ensure_ascii=chance.random() < 0.5).encode()
        for _ in range(chance.choice((0, 0, 0, 1, 2))):
            place = chance.randrange(len(data) + 1)
            data = data[:place] + chance.choice(_ATOMS) + data[place + chance.randrange(3) :]
        return data + chance.choice((b"", b"\n", b" \t\r\n"))

    def message(self) -> Any:
        chance = self._chance
        if chance.random() < 0.1:
            line = chance.choice(_LINES)
            return {"execute": "human-monitor-command", "arguments": {"command-line": line}}
        name = chance.choice(self._commands)
        message: dict[str, Any] = {chance.choice(("execute", "execute", "exec-oob")): name}
        if name in ("qmp_capabilities",):
            return message
        message["arguments"] = self._value(self._types[name]["arg-type"], 0)
        if chance.random() < 0.3:
            message["id"] = self._odd()
        if chance.random() < 0.05:
            message[chance.choice(_TEXTS)] = self._odd()
        return message

    def _odd(self) -> Any:
        return self._chance.choice((*_ODD, *_TEXTS, *_NUMBERS))

    def _value(self, name: str, depth: int) -> Any:
        """A value of a type, now and then a wrong one."""
        chance = self._chance
        if chance.random() < _WRONG or depth > _DEPTH_MAX:
            return self._odd()
        entry = self._types[name]
        match entry["meta-type"]:
            case "enum":
                return chance.choice(entry["members"])["name"]
            case "array":
                return [self._value(entry["element-type"], depth + 1) for _ in range(chance.randrange(3))]
            case "alternate":
                return self._value(chance.choice(entry["members"])["type"], depth)
            case "object":
                return self._object(entry, depth)
        return self._builtin(entry["json-type"])

    def _object(self, entry: Mapping[str, Any], depth: int) -> dict[str, Any]:
        chance = self._chance
        found = {}
        for member in entry["members"]:
            if "default" not in member or chance.random() < 0.2:
                found[member["name"]] = self._value(member["type"], depth + 1)
        kind = found.get(entry.get("tag", ""))
        for variant in entry.get("variants", ()):
            if variant["case"] == kind:
                found.update(self._object(self._types[variant["type"]], depth))
        if chance.random() < _WRONG / 2 and found:
            del found[chance.choice(list(found))]
        return found

    def _builtin(self, kind: str) -> Any:
        match kind:
            case "string":
                return self._chance.choice(_TEXTS)
            case "int" | "number":
                return self._chance.choice(_NUMBERS)
            case "boolean":
                return self._chance.random() < 0.5
            case "null":
                return None
        return self._odd()

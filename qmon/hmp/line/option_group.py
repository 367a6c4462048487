"""Reads the options of a group, ``key=value,...``: the argument type ``O`` (util/qemu-option.c)."""

from __future__ import annotations

import re

from qmon.hmp.line.words import ReadError
from qmon.notation.keyval import is_identifier

_IMPLIED_KEYS = {"device": "driver", "netdev": "type", "object": "qom-type", "chardev": "backend"}
_KEY = re.compile(r"[^=,]*")
_VALUE = re.compile(r"(?:[^,]|,,)*")


def read_options(text: str, group: str) -> dict[str, str]:
    """Read the options of a group such as ``netdev``; ``id`` is the first key. A later value wins.

    A first part without ``=`` is the value of the group's implied key. Any other part without ``=`` is a
    switch: ``x`` is ``x=on``, ``nox`` is ``x=off``. Raises ReadError, without a message as in QEMU, for an
    invalid id.
    """
    options = {}
    # as in QEMU, the id is found before the rest is read, and then the first part has no implied key
    parts = _parts(text, None)
    given = next((value for key, value in parts if key == "id"), None)
    if given is not None:
        if not is_identifier(given):
            is_to_come = text.endswith("=") and [key for key, _ in parts].index("id") == len(parts) - 1
            raise ReadError("", is_curable=not given and is_to_come)
        options["id"] = given
    options.update((key, value) for key, value in _parts(text, _IMPLIED_KEYS.get(group)) if key != "id")
    return options


def _parts(text: str, implied_key: str | None) -> list[tuple[str, str]]:
    """Return the options as pairs; a doubled comma in a value stands for a comma."""
    parts = []
    position = 0
    while position < len(text):
        key, position = _match(_KEY, text, position)
        if text[position : position + 1] == "=":
            value, position = _match(_VALUE, text, position + 1)
            value = value.replace(",,", ",")
        elif implied_key is not None:
            value, position = _match(_VALUE, text, position - len(key))
            key, value = implied_key, value.replace(",,", ",")
        elif key.startswith("no"):
            key, value = key[2:], "off"
        else:
            value = "on"
        parts.append((key, value))
        implied_key = None
        position += 1  # the comma
    return parts


def _match(pattern: re.Pattern[str], text: str, position: int) -> tuple[str, int]:
    match = pattern.match(text, position)
    assert match is not None
    return match[0], match.end()

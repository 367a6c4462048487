"""QEMU's ``key=value,key=value`` option strings."""

from __future__ import annotations

import re

from qmon.errors import UsageError
from qmon.notation.units import SIZE_HINT, RangeError, parse_size, parse_unsigned

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9._-]*")
IDENTIFIER_HINT = "Identifiers consist of letters, digits, '-', '.', '_', starting with a letter."

HELP_WORDS = ("help", "?")
"""The words that ask for help in the place of an option."""

TRUE_WORDS = ("on", "yes", "true", "y")
FALSE_WORDS = ("off", "no", "false", "n")


def is_identifier(text: str) -> bool:
    """Whether text is a valid id (QEMU, util/id.c: id_wellformed)."""
    return _IDENTIFIER.fullmatch(text) is not None


def split_options(text: str) -> list[str]:
    """Split at single commas; a doubled comma stands for a comma in the text."""
    parts = [""]
    position = 0
    while position < len(text):
        comma = text.find(",", position)
        if comma < 0:
            parts[-1] += text[position:]
            break
        parts[-1] += text[position:comma]
        if text[comma : comma + 2] == ",,":
            parts[-1] += ","
            position = comma + 2
        else:
            parts.append("")
            position = comma + 1
    if parts[-1] == "" and (len(parts) > 1 or not text):
        parts.pop()
    return parts


def parse_keyval(text: str, implied_key: str | None = None) -> dict[str, str]:
    """Read an option string into a dictionary; a later value replaces an earlier one.

    If the first part has no ``=``, it is the value of ``implied_key``. Any other part without ``=`` is a
    switch: ``server`` means ``server=on``, ``nowait`` means ``wait=off``. Raises UsageError for an empty key.
    """
    options: dict[str, str] = {}
    for number, part in enumerate(split_options(text)):
        key, equals, value = part.partition("=")
        if not equals:
            if number == 0 and implied_key is not None:
                key, value = implied_key, part
            else:
                key, value = short_form(part) if part != "no" else (part, "on")
        if not key:
            raise UsageError(f"Expected 'key=value' in '{text}', found '{part}'")
        options[key] = value
    return options


def short_form(part: str) -> tuple[str, str]:
    """Return the key and value that a switch without a value stands for: ``nowait`` is ``wait=off``."""
    return (part[2:], "off") if part.startswith("no") else (part, "on")


def parse_switch(key: str, value: str) -> bool:
    """Read the value of an ``on|off`` option. Raises UsageError with QEMU's message."""
    if value in TRUE_WORDS:
        return True
    if value in FALSE_WORDS:
        return False
    raise UsageError(f"Parameter '{key}' expects 'on' or 'off'")


def parse_number(key: str, value: str) -> int:
    """Read the value of a numeric option, unsigned with 64 bits. Raises UsageError with QEMU's message."""
    try:
        return parse_unsigned(value)
    except RangeError as error:
        raise UsageError(f"Value '{value}' is too large for parameter '{key}'") from error
    except ValueError as error:
        raise UsageError(f"Parameter '{key}' expects a number") from error


def parse_size_option(key: str, value: str) -> int:
    """Read the value of a size option; return bytes. Raises UsageError with QEMU's message."""
    try:
        return parse_size(value)
    except RangeError as error:
        raise UsageError(f"Value '{value}' is out of range for parameter '{key}'") from error
    except ValueError as error:
        raise UsageError(f"Parameter '{key}' {SIZE_HINT}") from error

"""Builds a JSON value from its tokens, one after another, without recursion for nested values. Pure.

The error messages are QEMU's (qobject/json-parser.c).
"""

from __future__ import annotations

import math
from enum import Enum, auto
from typing import Any

from qmon.notation.json_tokens import number_value, parse_error

_SHOWN_MAX = 40


class _Wanted(Enum):
    FIRST_KEY = auto()
    KEY = auto()
    COLON = auto()
    FIRST_VALUE = auto()
    VALUE = auto()
    COMMA = auto()


_KEYS = (_Wanted.FIRST_KEY, _Wanted.KEY)


class JsonBuilder:
    """Builds one value: ``value``, when all brackets have closed. Raises UsageError for invalid JSON."""

    def __init__(self) -> None:
        self.value: Any = None
        self._wanted = _Wanted.VALUE
        self._open: list[tuple[list[Any] | dict[str, Any], _Wanted, str]] = []
        """Each open container, what is wanted around it, and its key there."""
        self._key = ""
        self._too_large = ""

    def structure(self, character: str) -> None:
        """Take one of ``{}[]:,``."""
        wanted = self._wanted
        match character:
            case "{" | "[":
                self.expect_value()
                self._open.append(({} if character == "{" else [], wanted, self._key))
                self._wanted = _Wanted.FIRST_KEY if character == "{" else _Wanted.FIRST_VALUE
            case "," if wanted is _Wanted.COMMA and self._open:
                self._wanted = _Wanted.KEY if self._in_object else _Wanted.VALUE
            case ":" if wanted is _Wanted.COLON:
                self._wanted = _Wanted.VALUE
            case "}" if wanted is _Wanted.FIRST_KEY or (wanted is _Wanted.COMMA and self._in_object):
                self._close()
            case "]" if wanted is _Wanted.FIRST_VALUE or (wanted is _Wanted.COMMA and not self._in_object):
                self._close()
            case _:
                raise parse_error(self._missing())

    def expect_value(self) -> None:
        """Raises UsageError if no value, nor a key, belongs here."""
        if self._wanted in (_Wanted.COLON, _Wanted.COMMA):
            raise parse_error(self._missing())

    def scalar(self, value: Any) -> None:
        """Take a string or the value of a keyword."""
        self.expect_value()
        self._attach(value)

    def number(self, text: str) -> None:
        """Take a number. One that is too large is refused at the end: QEMU would take it, as infinity."""
        value = number_value(text)
        if math.isinf(value):
            shown = text if len(text) <= _SHOWN_MAX else f"{text[:_SHOWN_MAX]}..."
            self._too_large = self._too_large or shown
        self.scalar(value)

    def finish(self) -> Any:
        """Return the value. Raises UsageError if it is not complete, or if it has an infinite number."""
        if self._open or self._wanted is not _Wanted.COMMA:
            raise parse_error("premature EOI")
        if self._too_large:
            raise parse_error(f"number '{self._too_large}' is too large")
        return self.value

    @property
    def _in_object(self) -> bool:
        return bool(self._open) and isinstance(self._open[-1][0], dict)

    def _missing(self) -> str:
        if self._wanted is _Wanted.COLON:
            return "missing : in object pair"
        if self._wanted is _Wanted.COMMA:
            return f"expected separator in {'dict' if self._in_object else 'list'}"
        return "expecting value"

    def _close(self) -> None:
        container, self._wanted, self._key = self._open.pop()
        self._attach(container)

    def _attach(self, value: Any) -> None:
        if not self._open:
            self.value = value
        elif isinstance(container := self._open[-1][0], list):
            container.append(value)
        elif self._wanted in _KEYS:
            if not isinstance(value, str):
                raise parse_error("key is not a string in object")
            self._key = value
            self._wanted = _Wanted.COLON
            return
        elif self._key in container:
            raise parse_error("duplicate key")
        else:
            container[self._key] = value
        self._wanted = _Wanted.COMMA

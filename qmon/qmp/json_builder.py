"""Builds a JSON value from its tokens, one after another, without recursion for nested values. Pure."""

from __future__ import annotations

import math
import re
from enum import Enum, auto
from typing import Any

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(\.[0-9]+)?([eE][-+]?[0-9]+)?")
_KEYWORDS = {"true": True, "false": False, "null": None}


class _Wanted(Enum):
    FIRST_KEY = auto()
    KEY = auto()
    COLON = auto()
    FIRST_VALUE = auto()
    VALUE = auto()
    COMMA = auto()


class JsonBuilder:
    """Builds one value: ``value``, when all brackets have closed. Raises ValueError for invalid JSON."""

    def __init__(self) -> None:
        self.value: Any = None
        self._wanted = _Wanted.VALUE
        self._open: list[tuple[list[Any] | dict[str, Any], str]] = []
        self._key = ""

    def structure(self, character: str) -> None:
        """Take one of ``{}[]:,``."""
        wanted = self._wanted
        match character:
            case "{" | "[":
                container: list[Any] | dict[str, Any] = {} if character == "{" else []
                self._attach(container)
                self._open.append((container, self._key))
                self._wanted = _Wanted.FIRST_KEY if character == "{" else _Wanted.FIRST_VALUE
            case "," if wanted is _Wanted.COMMA and self._open:
                self._wanted = _Wanted.KEY if isinstance(self._open[-1][0], dict) else _Wanted.VALUE
            case ":" if wanted is _Wanted.COLON:
                self._wanted = _Wanted.VALUE
            case "}" | "]":
                first = _Wanted.FIRST_KEY if character == "}" else _Wanted.FIRST_VALUE
                kind = dict if character == "}" else list
                if wanted not in (_Wanted.COMMA, first) or not isinstance(self._open[-1][0], kind):
                    raise ValueError("a bracket that closes nothing")
                self.value, self._key = self._open.pop()
                self._wanted = _Wanted.COMMA
            case _:
                raise ValueError(f"a stray '{character}'")

    def string(self, text: str) -> None:
        """Take a string, without its quotes and escapes."""
        if self._wanted in (_Wanted.KEY, _Wanted.FIRST_KEY):
            self._key = text
            self._wanted = _Wanted.COLON
        else:
            self._attach(text)

    def word(self, text: str) -> None:
        """Take a number or a keyword."""
        if text in _KEYWORDS:
            self._attach(_KEYWORDS[text])
            return
        match = _NUMBER.fullmatch(text)
        if match is None:
            raise ValueError(f"'{text}' is not a value")
        number = int(text) if match.group(1) is match.group(2) is None else float(text)
        if not math.isfinite(number):
            raise ValueError(f"'{text}' is too large")
        self._attach(number)

    def _attach(self, value: Any) -> None:
        if self._wanted not in (_Wanted.VALUE, _Wanted.FIRST_VALUE):
            raise ValueError("a value where none belongs")
        self._wanted = _Wanted.COMMA
        if not self._open:
            return
        container = self._open[-1][0]
        if isinstance(container, dict):
            container[self._key] = value
        else:
            container.append(value)

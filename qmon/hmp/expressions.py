"""Integer expressions as the monitor reads them, in 64-bit two's complement.

sum    := logic (('+' | '-') logic)*
logic  := prod (('&' | '|' | '^') prod)*
prod   := unary (('*' | '/' | '%') unary)*
unary  := ('+' | '-' | '~') unary | '(' sum ')' | character | $register | number
"""

from __future__ import annotations

import re
from collections.abc import Callable

from qmon.hmp.person import LineError
from qmon.hmp.table import skip_space

NESTING_MAX = 200
"""How deep parentheses and signs may nest, so that no line exhausts the interpreter's stack."""

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")


def wrap(value: int) -> int:
    """A value as a signed 64-bit integer holds it."""
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


def _divide(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_LEVELS = {"+": 0, "-": 0, "&": 1, "|": 1, "^": 1, "*": 2, "/": 2, "%": 2}
_OPERATORS: dict[str, Callable[[int, int], int]] = {
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "&": lambda left, right: left & right,
    "|": lambda left, right: left | right,
    "^": lambda left, right: left ^ right,
    "*": lambda left, right: left * right,
    "/": _divide,
    "%": lambda left, right: left - right * _divide(left, right),
}


def evaluate(text: str, position: int) -> tuple[int, int]:
    """Read one expression at ``position``; return its value and where it ends, white space taken.

    What can't belong to it ends it: ``1 2`` is 1, and the rest is the caller's. Raises LineError.
    """
    reader = _Reader(text, position)
    value = reader.sum()
    return value, reader.position


class _Reader:
    def __init__(self, text: str, position: int) -> None:
        self._text = text
        self._depth = 0
        self.position = skip_space(text, position)

    def sum(self) -> int:
        return self._chain(0)

    def _chain(self, level: int) -> int:
        """Operands joined by operators that bind at least as tightly as ``level``, from left to right."""
        value = self._unary()
        while (operator := self._ahead()) and _LEVELS.get(operator, -1) >= level:
            self._next()
            right = self._chain(_LEVELS[operator] + 1)
            if operator in "/%" and right == 0:
                raise LineError("division by zero")
            value = wrap(_OPERATORS[operator](value, right))
        return value

    def _unary(self) -> int:
        self._depth += 1
        if self._depth > NESTING_MAX:
            raise LineError(f"expression nests deeper than {NESTING_MAX} levels")
        try:
            return self._operand()
        finally:
            self._depth -= 1

    def _operand(self) -> int:
        ahead = self._ahead()
        match ahead:
            case "":
                raise LineError("unexpected end of expression")
            case "+" | "-" | "~":
                self._next()
                value = self._unary()
                return wrap({"+": value, "-": -value, "~": ~value}[ahead])
            case "(":
                self._next()
                value = self.sum()
                if self._ahead() != ")":
                    raise LineError("')' expected")
                self._next()
                return value
            case "'":
                return self._character()
            case "$":
                raise LineError("unknown register")
        return self._number()

    def _character(self) -> int:
        self.position += 1
        character = self._ahead()
        if not character:
            raise LineError("character constant expected")
        self.position += 1
        if self._ahead() != "'" or not character.isascii():
            raise LineError("missing terminating ' character")
        self._next()
        return ord(character)

    def _number(self) -> int:
        match = _NUMBER.match(self._text, self.position)
        if match is None:
            raise LineError(f"invalid char '{self._ahead()}' in expression")
        digits = match[0]
        if digits[:2] in ("0x", "0X"):
            value = int(digits, 16)
        else:
            # more digits than 64 bits have in any base; int() would refuse very long ones in its own words
            if len(digits.lstrip("0")) > 22:
                raise LineError("number too large")
            value = int(digits, 8 if digits[0] == "0" else 10)
        if value >= 1 << 64:
            raise LineError("number too large")
        self.position = skip_space(self._text, match.end())
        return wrap(value)

    def _ahead(self) -> str:
        return self._text[self.position : self.position + 1]

    def _next(self) -> None:
        self.position = skip_space(self._text, self.position + 1)

"""Evaluates a monitor's integer expressions in 64-bit two's complement.

sum    := logic (('+' | '-') logic)*
logic  := prod (('&' | '|' | '^') prod)*
prod   := unary (('*' | '/' | '%') unary)*
unary  := ('+' | '-' | '~') unary | '(' sum ')' | character | $register | number
"""

from __future__ import annotations

import re
from collections.abc import Callable

from qmon.hmp.line.words import ReadError, first_byte, skip_space

_NUMBER = re.compile(r"0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*")


def wrap(value: int) -> int:
    """Return a value as a signed 64-bit integer."""
    return ((value + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


def _divide(left: int, right: int) -> int:
    quotient = abs(left) // abs(right)
    return quotient if (left < 0) == (right < 0) else -quotient


_TIGHTEST = 2
_LEVELS = {"+": 0, "-": 0, "&": 1, "|": 1, "^": 1, "*": _TIGHTEST, "/": _TIGHTEST, "%": _TIGHTEST}
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
_SIGNS: dict[str, Callable[[int], int]] = {"+": lambda n: n, "-": lambda n: wrap(-n), "~": lambda n: ~n}


def evaluate(text: str, position: int) -> tuple[int, int]:
    """Read one expression at ``position``; return its value and where it ends, after white space.

    The first character that can't continue it ends it: ``1 2`` is 1. Raises ReadError.
    """
    return _Reader(text, position).read()


class _Chain:
    """The operands and operators between two parentheses, as far as they were read."""

    def __init__(self) -> None:
        self._values: list[int] = []
        self._operators: list[str] = []
        self.signs: list[str] = []

    def add(self, value: int) -> None:
        """Add an operand, and apply the signs before it."""
        while self.signs:
            value = _SIGNS[self.signs.pop()](value)
        self._values.append(value)
        self._join(_TIGHTEST)  # at once, because a division by zero is reported before a later error

    def add_operator(self, operator: str) -> None:
        self._join(_LEVELS[operator])
        self._operators.append(operator)

    def value(self) -> int:
        self._join(0)
        return self._values[0]

    def _join(self, level: int) -> None:
        """Compute the operators that bind at least as tightly as ``level``."""
        while self._operators and _LEVELS[self._operators[-1]] >= level:
            operator, right, left = self._operators.pop(), self._values.pop(), self._values.pop()
            if operator in "/%" and right == 0:
                raise ReadError("division by zero")
            self._values.append(wrap(_OPERATORS[operator](left, right)))


class _Reader:
    """Uses its own stack, because a line may consist of parentheses only."""

    def __init__(self, text: str, position: int) -> None:
        self._text = text
        self._position = skip_space(text, position)
        self._may_grow = False
        """Whether the text ends with a number that more digits would change."""

    def read(self) -> tuple[int, int]:
        try:
            return self._read()
        except ReadError as error:
            error.is_curable = error.is_curable or self._may_grow
            raise

    def _read(self) -> tuple[int, int]:
        chains = [_Chain()]
        while True:
            ahead = self._ahead()
            if ahead and ahead in _SIGNS:
                chains[-1].signs.append(ahead)
                self._next()
                continue
            if ahead == "(":
                chains.append(_Chain())
                self._next()
                continue
            chains[-1].add(self._operand(ahead))
            while (ahead := self._ahead()) not in _LEVELS:
                value = chains.pop().value()
                if not chains:
                    return value, self._position
                if ahead != ")":
                    raise ReadError("')' expected", is_curable=not ahead)
                self._next()
                chains[-1].add(value)
            chains[-1].add_operator(ahead)
            self._next()

    def _operand(self, ahead: str) -> int:
        match ahead:
            case "":
                raise ReadError("unexpected end of expression", is_curable=True)
            case "'":
                return self._character()
            case "$":
                raise ReadError("unknown register")
        return self._number()

    def _character(self) -> int:
        """Read a character constant: one signed byte. A byte that is not ASCII is a surrogate (PEP 383)."""
        character = self._text[self._position + 1 : self._position + 2]
        if not character:
            raise ReadError("character constant expected", is_curable=True)
        code = character.encode("utf-8", "surrogateescape")
        self._position += 2
        if len(code) > 1 or self._ahead() != "'":
            is_curable = len(code) == 1 and not self._ahead()
            raise ReadError("missing terminating ' character", is_curable=is_curable)
        self._next()
        return int.from_bytes(code, signed=True)

    def _number(self) -> int:
        match = _NUMBER.match(self._text, self._position)
        if match is None:
            raise ReadError(f"invalid char '{first_byte(self._ahead())}' in expression")
        digits = match[0]
        base = 16 if digits[:2] in ("0x", "0X") else 8 if digits[0] == "0" else 10
        # more digits than 64 bits have; int() would raise its own error for a very long number
        if base < 16 and len(digits.lstrip("0")) > 22:
            raise ReadError("number too large")
        value = int(digits, base)
        if value >= 1 << 64:
            raise ReadError("number too large")
        behind = self._text[match.end() : match.end() + 2]
        self._may_grow = (not behind and value * base < 1 << 64) or (digits == "0" and behind in ("x", "X"))
        self._position = skip_space(self._text, match.end())
        return wrap(value)

    def _ahead(self) -> str:
        return self._text[self._position : self._position + 1]

    def _next(self) -> None:
        self._position = skip_space(self._text, self._position + 1)

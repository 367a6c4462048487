"""Monitor lines at random for the tests of the grammar: made from the table's argument types, nastily."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from typing import TypeVar

from qmon.hmp.tables.signature import Parameter
from qmon.hmp.tables.table import Command

T = TypeVar("T")

LINE_BYTES_MAX = 4095

_GRAPHIC = "".join(map(chr, range(33, 127)))
_FOREIGN = ("é", "ñandú", "λ", "日本", "🙂", "\u00a0", "٣", "\u3000")
_WORDS = (
    "x",
    "nosuch",
    "a.b",
    "/",
    "a/b",
    ".",
    "..",
    "0",
    "on",
    "-",
    "--",
    "-x",
    "#",
    "blk0",
    "x=y",
    "~",
    "x,y",
)
_ESCAPES = (*("\\n", "\\r", "\\\\", "\\'", '\\"') * 3, "\\t", "\\x41", "\\0", "\\", "\\é")
_REPEATED = ("x", "ab", "0", "9", "1,", "a=b,", "é", "\\n", "日")
_LENGTHS = (1022, 1023, 1024, 1030)
_SWITCHES = (
    "on",
    "off",
    "On",
    "OFF",
    "onx",
    "offf",
    "o",
    "oné",
    "true",
    "1",
    '"on"',
    "on.",
    "off,",
    "on\u00a0",
)
_EDGES = tuple(edge + near for edge in (1 << 31, 1 << 32, 1 << 63, 1 << 64) for near in (-1, 0, 1))
_ODD_NUMBERS = ("08", "0x", "0b1", "00", "1e3", "1.5", "0x1.8p3", "9" * 40, "0" * 50 + "7", "1_0", "0X1F")
_ATOMS = (
    "'a'",
    "'''",
    "' '",
    "'\\'",
    "''",
    "'",
    "'ab'",
    "'é'",
    "$pc",
    "$eax+1",
    "$",
    "$é",
    "a",
    '"1"',
    "é",
    "",
)
_WHOLE = ("0", "1", "5", "00", "010", "0x10", "0X1f", "0x", "0xg", "0x1e", "100", "18446744073709551615")
_FRACTIONS = ("", "", "", ".", ".5", ".0", ".25", ".999", ".e", ".5.5", ".5E", ".5p", "p3", ".0000000001")
_EXPONENTS = ("", "", "", "", "", "e3", "E+3", "e+", "E-2", "e")
_SIZE_SUFFIXES = ("", *"bBkKmMgGtTpPeE", "kk", "Z", "iB", "ib", "KB", " k", ",", "é")
_ODD_SIZES = (
    "inf",
    "nan",
    "-0",
    "-1",
    ".5",
    "0x1.8p3",
    "0x1.8",
    "8E",
    "7.99999E",
    "16E",
    "1e400",
    "9" * 30,
    "x",
)
_OPTIONS = (
    "usr",
    "id=a",
    "id=a1",
    "id=1",
    "id=",
    "id",
    "a=b",
    "a",
    "noa",
    "no",
    "=",
    "a==b",
    "x,,y",
    "id=-",
    "",
)
_LARGE = re.compile(r"[0-9a-fA-FxX]{15}")
_QUIT = re.compile(rb"\s*(?:q|quit)(?:[\s/]|$)")


class Lines:
    """Makes lines whose bytes arrive whole by any line editor.

    Unless ``controls`` are asked for: then they are ASCII, with white space and control characters of every
    kind.
    """

    def __init__(self, random: Random, controls: bool = False) -> None:
        self._random = random
        self._controls = controls
        self._argument_of: dict[str, Callable[[], str]] = {
            "F": self._word,
            "B": self._word,
            "s": self._word,
            "S": lambda: self._blank().join(self._word() for _ in range(random.randint(1, 3))),
            "O": self._options,
            "i": self._expression,
            "l": self._expression,
            "M": self._expression,
            "o": self._size,
            "b": self._switch,
        }

    def calling(self, path: str, command: Command) -> bytes:
        """A line that calls a command, with arguments as its table has them, or nearly so."""
        text = self._maybe_blank() + path.replace("/", self._blank())
        care = self._random.randrange(10)  # how much of the table is kept to
        for parameter in command.parameters:
            if care == 0 and self._chance(0.5):
                break
            text += self._argument(parameter, care)
        if care < 3:
            text += self._blank() + (self._word() if self._chance(0.6) else "")
        return self._finished(text)

    def any(self) -> bytes:
        """A line that calls nothing, mostly; never ``quit``."""
        while True:
            first = self._pick("info", "help", "print", "migrate", "?", self._word())
            separator = "/" if self._chance(0.3) else self._blank()
            text = separator.join([first, *(self._word() for _ in range(self._random.randrange(3)))])
            line = self._finished(self._maybe_blank() + text)
            if not _QUIT.match(line):
                return line

    def _finished(self, text: str) -> bytes:
        line = text.encode("utf-8", "surrogateescape")
        if self._controls:
            line = bytes(byte for byte in line if 0 < byte < 128)
        else:
            # bytes from 0x80 on may be C1 controls, which begin sequences for a line editor
            line = line.replace(b"\x9b", b"\xbb")
        return line[:LINE_BYTES_MAX]

    def _argument(self, parameter: Parameter, care: int) -> str:
        if parameter.kind == "/":
            return (self._maybe_blank() if care < 3 else "") + self._format()
        if parameter.is_flag:
            return self._flag(parameter, care)
        if parameter.optional and self._chance(0.4):
            return ""
        argument = self._argument_of[parameter.kind]()
        if parameter.dotted:
            argument = self._pick(".", ".", " . ", " .", "", "..") + argument
        return (self._maybe_blank() if care == 2 else self._blank()) + argument

    def _flag(self, parameter: Parameter, care: int) -> str:
        """The flag, or not; in a careless line maybe twice, or another one that no table has."""
        own = f"-{parameter.letter}"
        odd = ("-", "--", "-?", "-é", own * 2, f"{own} {own}")
        flag = self._pick("", "", own, *odd) if care == 1 else self._pick("", "", own)
        if not flag:
            return ""
        return self._blank() + flag + (self._maybe_blank() + self._word() if parameter.takes_value else "")

    def _word(self) -> str:
        if self._chance(0.003):  # few: a line editor's echo grows with the square of their length
            word = (self._pick(*_REPEATED) * self._pick(*_LENGTHS))[: self._pick(*_LENGTHS)]
            return word if self._chance(0.5) else f'"{word}"'
        if self._chance(0.3):
            return self._quoted()
        word = self._pick(*_WORDS)
        if self._chance(0.4):
            word = self._graphic(8)
        if self._chance(0.1):
            word += self._pick(*_FOREIGN)
        if self._chance(0.05):
            word += "".join(chr(0xDC00 + self._random.randint(0x80, 0xFF)) for _ in range(3))
        if self._controls and self._chance(0.3):
            word += self._pick(*map(chr, [*range(1, 9), *range(14, 28), 0x7F])) + self._graphic(3)
        return word

    def _quoted(self) -> str:
        pieces = [
            self._pick(
                self._graphic(5).replace('"', ""), self._blank(), self._pick(*_ESCAPES), self._pick(*_FOREIGN)
            )
            for _ in range(self._random.randrange(5))
        ]
        return '"' + "".join(pieces) + self._pick('"', '"', '"', '"', "", '"x', '""')

    def _options(self) -> str:
        if self._chance(0.2):
            return self._word()
        pieces = [
            self._pick(*_OPTIONS) if self._chance(0.7) else "".join(self._random.choices("ab=,.-_1 é", k=4))
            for _ in range(self._random.randint(1, 4))
        ]
        return ",".join(pieces) if self._chance(0.7) else f'"{",".join(pieces)}"'

    def _switch(self) -> str:
        return self._pick("on", "off", self._pick(*_SWITCHES), self._word())

    def _size(self) -> str:
        if self._chance(0.2):
            return self._pick(*_ODD_SIZES)
        pieces = (_WHOLE, _FRACTIONS, _EXPONENTS, _SIZE_SUFFIXES)
        return self._pick("", "", "", "", "+", "-", "+ ") + "".join(self._pick(*each) for each in pieces)

    def _format(self) -> str:
        if self._chance(0.4):
            return ""
        count = self._pick("", "", "1", "12", "0", "99999999999", "-1", "٣")
        letters = "".join(self._random.choices("oduxicbhwgL", k=self._random.randrange(4)))
        return f"/{count}{letters}" + (self._graphic(2) + self._pick("", "é") if self._chance(0.2) else "")

    def _expression(self) -> str:
        """One in which QEMU does not divide INT64_MIN by -1, of which it dies."""
        if self._chance(0.005):
            depth = 1900 if self._chance(0.05) else 60
            return "(" * depth + self._atom() + ")" * (depth - self._random.randrange(2))
        while True:
            text = self._sum(self._pick(0, 0, 1, 2, 3))
            if not (_LARGE.search(text) and re.search("[/%]", text)):
                return text

    def _sum(self, depth: int) -> str:
        if depth == 0:
            return self._atom()
        gap = self._maybe_blank() if self._chance(0.3) else ""
        inner: str = self._sum(self._random.randrange(depth))
        match self._random.randrange(4):
            case 0:
                return self._random.choice("+-~") + gap + inner
            case 1:
                return f"({gap}{inner}" + self._pick(")", ")", ")", ")", " )", "", "))")
        return inner + gap + self._random.choice("+-*/%&|^") + gap + self._sum(self._random.randrange(depth))

    def _atom(self) -> str:
        if self._chance(0.2):
            return self._pick(*_ATOMS)
        if self._chance(0.1):
            return self._pick(*_ODD_NUMBERS)
        values = (self._random.randint(0, 300), self._random.randrange(1 << 66), self._pick(*_EDGES))
        value = self._pick(*values)
        return self._pick(str(value), f"{value:#x}", f"0{value:o}", f"{value:#X}")

    def _graphic(self, longest: int) -> str:
        return "".join(self._random.choices(_GRAPHIC, k=self._random.randint(1, longest)))

    def _blank(self) -> str:
        spaces = " \t\n\v\f\r" if self._controls else " "
        return "".join(self._random.choices(spaces, k=self._pick(1, 1, 1, 1, 2, 5)))

    def _maybe_blank(self) -> str:
        return self._blank() if self._chance(0.4) else ""

    def _chance(self, part: float) -> bool:
        return self._random.random() < part

    def _pick(self, *choices: T) -> T:
        return self._random.choice(choices)

"""A line's arguments read by the table's types, with QEMU's errors."""

from __future__ import annotations

import enum
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from qmon.hmp.line.expressions import evaluate, wrap
from qmon.hmp.line.option_group import read_options
from qmon.hmp.line.words import first_byte, read_word
from qmon.hmp.person import LineError
from qmon.hmp.tables.signature import (
    EXPRESSION_KINDS,
    WORD_KINDS,
    Parameter,
    Value,
    Values,
)
from qmon.hmp.tables.table import SPACE, Command, skip_space
from qmon.notation.units import INT64_MAX, MIB, read_size

_EXPECTED = {"F": "filename", "B": "block device name", "s": "string"}
_FORMAT = re.compile(r"/(?P<count>[0-9]*)(?P<letters>[oduxicbhwgL]*)")
_SIZE_BYTES = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
_DOUBLE = re.compile(
    r"[+-]?(?:inf(?:inity)?|nan|0x[0-9a-f]+|(?:\d+\.?\d*|\.\d+)(?:e[+-]?\d+)?)", re.IGNORECASE | re.ASCII
)
_SECONDS = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}
_SCALES = {"k": 1 << 10, "K": 1 << 10, "m": 1 << 20, "M": 1 << 20, "g": 1 << 30, "G": 1 << 30}
NUL = "\0"
"""What QEMU finds at the end of a line; of a message that names it, nothing that follows is printed."""


@dataclass(slots=True)
class FormatDefaults:
    """The format and size that a line without them gets: those of the last line that had them."""

    format: str = "x"
    size_bytes: int = 4


def _wrap32(value: int) -> int:
    """A value as a C ``int`` holds it; digits above the lowest 32 decimal ones don't count in it."""
    return ((value + (1 << 31)) & ((1 << 32) - 1)) - (1 << 31)


def read_arguments(command: Command, text: str, start: int, formats: FormatDefaults) -> Values:
    """Read what stands in ``text`` from ``start`` on as the command's arguments.

    Returns them by key: str for F B s S and each option of O, int for i l M o (bytes), float for f and T
    (seconds), bool for b and flags; ``/`` gives ``count``, ``format`` and ``size``. What was left out has no
    key. Raises LineError with QEMU's words.
    """
    return _Reader(command, text, start, formats).read()


class PieceKind(enum.Enum):
    FLAG = enum.auto()
    BARE_WORD = enum.auto()
    ARGUMENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """What stands at ``text[start:end]``, and which parameter it belongs to."""

    start: int
    end: int
    kind: PieceKind
    parameter: Parameter


@dataclass(slots=True)
class Outline:
    """How far a line's arguments could be read.

    ``pieces`` were read; ``bad`` is where reading failed, None when it did not before the end of the text.
    At the end of the text one of the ``flags`` could follow, or the ``awaited`` parameter.
    """

    pieces: list[Piece] = field(default_factory=list)
    bad: int | None = None
    flags: list[Parameter] = field(default_factory=list)
    awaited: Parameter | None = None


def outline_arguments(command: Command, text: str, start: int) -> Outline:
    """Read as ``read_arguments`` does, a line that may be wrong or unfinished. Raises HxError alone."""
    reader = _Reader(command, text, start, FormatDefaults(), unfinished=True)
    try:
        reader.read()
    except LineError:
        position = skip_space(text, reader.started)
        if position < len(text):
            reader.outline.bad = position
    return reader.outline


class _Reader:
    def __init__(
        self,
        command: Command,
        text: str,
        position: int,
        formats: FormatDefaults,
        unfinished: bool = False,
    ) -> None:
        self._unfinished = unfinished
        self._command = command
        self._text = text
        self._position = position
        self._formats = formats
        self._values: Values = {}
        self.outline = Outline()
        self.started = position

    def read(self) -> Values:
        parameters = self._command.parameters
        number = 0
        while number < len(parameters):
            if parameters[number].is_flag:
                number = self._flags(number)
            else:
                self._argument(parameters[number])
                number += 1
        self._skip_space()
        self.started = self._position
        if self._position < len(self._text):
            raise self._error("extraneous characters at the end of line")
        return self._values

    def _argument(self, parameter: Parameter) -> None:
        self._skip_space()
        self.started = self._position
        if parameter.dotted:
            if self._ahead() != ".":
                return
            self._position += 1
        if self.started == len(self._text) and parameter.kind != "/":
            self.outline.awaited = self.outline.awaited or parameter
            if parameter.optional:
                return
        if parameter.kind == "/":
            self._format()
        elif parameter.kind == "O":
            self._options(parameter)
        elif parameter.kind == "S":
            self._values[parameter.key] = self._rest(parameter)
        elif parameter.kind in WORD_KINDS:
            self._values[parameter.key] = self._word(f"{_EXPECTED[parameter.kind]} expected")
        elif parameter.kind in EXPRESSION_KINDS:
            self._values[parameter.key] = self._integer(parameter.kind)
        else:
            readers: dict[str, Callable[[], Value]] = {
                "o": self._size,
                "T": lambda: self._number(_SECONDS),
                "f": lambda: self._number(_SCALES),
                "b": self._switch,
            }
            self._values[parameter.key] = readers[parameter.kind]()
        self._note(PieceKind.ARGUMENT, parameter)

    def _note(self, kind: PieceKind, parameter: Parameter) -> None:
        """Keep what was read since ``started`` as a piece, white space behind it not included."""
        end = len(self._text[: self._position].rstrip(SPACE))
        if end > self.started:
            self.outline.pieces.append(Piece(self.started, end, kind, parameter))
        self.started = self._position

    def _flags(self, number: int) -> int:
        """Take flags and their bare words from parameter ``number`` on; return that of the first argument.

        Where QEMU takes or skips a flag, so do we: a dash and a letter that stand anywhere in what the table
        has behind the flag, in a key such as ``snapshot-file`` too, skip it; a dash behind the last flag is
        an argument. Flags are taken in another order only where one is still free.
        """
        parameters = self._command.parameters
        end = next((n for n in range(number, len(parameters)) if not parameters[n].is_flag), len(parameters))
        free = list(parameters[number:end])
        while free:
            self._skip_space()
            self.started = self._position
            if self.started == len(self._text):
                self.outline.flags += free
                break
            if self._ahead() != "-":
                flag = self._bare_word(free)
                if flag is None:
                    break
                self._take_flag(flag, PieceKind.BARE_WORD)
                free.remove(flag)
                continue
            letter = self._text[self._position + 1 : self._position + 2]
            flag = next((flag for flag in free if flag.letter == letter), None)
            if number < end and parameters[number] is not flag:
                if f"-{letter}" in self._behind(number):
                    number += 1
                    continue
                if flag is None:
                    raise self._error(f"unsupported option -{first_byte(letter) or NUL}")
            if flag is None:
                break
            number += number < end and parameters[number] is flag
            self._position += 2
            self._take_flag(flag, PieceKind.FLAG)
            free.remove(flag)
        return end

    def _behind(self, number: int) -> str:
        """What the table has behind the letter of the flag ``number``."""
        flag, *rest = self._command.parameters[number:]
        return ",".join(["s" if flag.takes_value else "", *map(str, rest)])

    def _take_flag(self, flag: Parameter, kind: PieceKind) -> None:
        self._note(kind, flag)
        if not flag.takes_value:
            self._values[flag.key] = True
            return
        self._values[flag.key] = self._word(f"value expected for -{flag.letter}")
        self.started = skip_space(self._text, self.started)
        self._note(PieceKind.ARGUMENT, flag)

    def _bare_word(self, free: list[Parameter]) -> Parameter | None:
        word = read_word(self._text, self._position)
        if word is None or word.quoted:
            return None
        behind = word.end if self._unfinished else skip_space(self._text, word.end)
        if behind == len(self._text):
            return None
        flag = next((flag for flag in free if flag.word == word.text), None)
        if flag is not None:
            self._position = word.end
        return flag

    def _word(self, problem: str) -> str:
        word = read_word(self._text, self._position)
        if word is None:
            raise self._error(problem)
        self._position = word.end
        return word.text

    def _rest(self, parameter: Parameter) -> str:
        self.outline.awaited = parameter  # whatever it holds already, more could follow
        rest = self._text[self._position :]
        if not rest:
            raise self._error("string expected")
        self._position = len(self._text)
        return rest

    def _options(self, parameter: Parameter) -> None:
        if self._position == len(self._text):
            return
        word = read_word(self._text, self._position)
        if word is None:
            raise LineError("")
        self._position = word.end
        self._values.update(read_options(word.text, parameter.key))

    def _integer(self, kind: str) -> int:
        value, self._position = evaluate(self._text, self._position)
        if kind == "i" and value >> 32:
            raise LineError(f"'{self._command.name}' has failed: integer is for 32-bit values")
        if kind == "M":
            if value < 0:
                raise LineError("enter a positive value")
            value = wrap(value * MIB)
        return value

    def _size(self) -> int:
        try:
            value, end = read_size(self._text, self._position, "M")
        except ValueError as error:
            raise LineError("invalid size") from error
        if value > INT64_MAX:
            raise LineError("invalid size")
        self._position = end
        return value

    def _number(self, units: Mapping[str, float]) -> float:
        """A floating-point number, maybe with one of the units, all of one length, right behind it."""
        match = _DOUBLE.match(self._text, self._position)
        if match is None:
            raise LineError("Number expected")
        digits = match[0]
        value = float(int(digits, 16)) if "x" in digits.lower() else float(digits)
        if not math.isfinite(value):
            raise LineError("Bad number")
        self._position = match.end()
        unit = self._text[self._position : self._position + len(next(iter(units)))]
        if unit in units:
            value *= units[unit]
            self._position += len(unit)
        if self._ahead() not in SPACE:
            raise LineError("Unknown unit suffix")
        return value

    def _switch(self) -> bool:
        end = self._position
        while end < len(self._text) and "!" <= self._text[end] <= "~":
            end += 1
        word = self._text[self._position : end]
        if word not in ("on", "off"):
            raise LineError("Expected 'on' or 'off'")
        self._position = end
        return word == "on"

    def _format(self) -> None:
        count, format_, size = 1, "", 0
        if self._ahead() == "/":
            match = _FORMAT.match(self._text, self._position)
            assert match is not None
            self._position = match.end()
            if self._ahead() not in SPACE:
                raise LineError(f"invalid char in format: '{first_byte(self._ahead())}'")
            count = _wrap32(int(match["count"][-32:] or 1))
            for letter in match["letters"]:
                if letter in _SIZE_BYTES:
                    size = _SIZE_BYTES[letter]
                else:
                    format_ = letter
        format_ = format_ or self._formats.format
        if format_ != "i":
            size = size or self._formats.size_bytes
            self._formats.size_bytes = size
        self._formats.format = format_
        self._values.update(count=count, format=format_, size=size or -1)

    def _skip_space(self) -> None:
        self._position = skip_space(self._text, self._position)

    def _ahead(self) -> str:
        return self._text[self._position : self._position + 1]

    def _error(self, problem: str) -> LineError:
        return LineError(f"{self._command.name}: {problem}")

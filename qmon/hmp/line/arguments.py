"""Reads a line's arguments by the types in the table, with QEMU's errors."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qmon.hmp.line.expressions import evaluate, wrap
from qmon.hmp.line.numbers import SCALES, SECONDS, is_half_hex, read_bytes, read_double
from qmon.hmp.line.option_group import read_options
from qmon.hmp.line.words import SPACE, ReadError, first_byte, is_half_word, read_word, skip_space
from qmon.hmp.tables.signature import (
    EXPRESSION_KINDS,
    WORD_KINDS,
    Parameter,
    Value,
    Values,
)
from qmon.hmp.tables.table import Command
from qmon.notation.units import MIB

_EXPECTED = {"F": "filename", "B": "block device name", "s": "string"}
_FORMAT = re.compile(r"/(?P<count>[0-9]*)(?P<letters>[oduxicbhwgL]*)")
_SIZE_BYTES = {"b": 1, "h": 2, "w": 4, "g": 8, "L": 8}
_NUMBER_BEGINS = "0123456789.+-"
EXTRANEOUS = "extraneous characters at the end of line"
NUL = "\0"
"""The character at the end of QEMU's line. QEMU's messages end where they would show it."""


@dataclass(frozen=True, slots=True)
class Format:
    """A ``/`` argument; "" and 0 mean that a part is not given."""

    count: int = 1
    letter: str = ""
    size_bytes: int = 0


@dataclass(slots=True)
class FormatDefaults:
    """The default format and size: those of the last line that gave them."""

    letter: str = "x"
    size_bytes: int = 4

    def fill(self, written: Format) -> Values:
        """Return the values of a format, filled with the defaults. They become the new defaults."""
        self.letter = written.letter or self.letter
        size_bytes = written.size_bytes
        if self.letter != "i":
            self.size_bytes = size_bytes = size_bytes or self.size_bytes
        return {"count": written.count, "format": self.letter, "size": size_bytes or -1}


def _wrap32(value: int) -> int:
    """Return a value as a C ``int`` of 32 bits."""
    return ((value + (1 << 31)) & ((1 << 32) - 1)) - (1 << 31)


class PieceKind(enum.Enum):
    FLAG = enum.auto()
    BARE_WORD = enum.auto()
    ARGUMENT = enum.auto()


@dataclass(frozen=True, slots=True)
class Piece:
    """The text from ``start`` to ``end``, and its parameter."""

    start: int
    end: int
    kind: PieceKind
    parameter: Parameter


@dataclass(frozen=True, slots=True)
class Arguments:
    """A line's arguments, as far as they could be read."""

    values: Values
    """By key: str for F B s S and each option of O, int for i l M o (bytes), float for f and T (seconds),
    bool for b and flags. An argument that is not given has no key."""
    pieces: tuple[Piece, ...] = ()
    format: Format | None = None
    """The argument of type ``/``; FormatDefaults makes values of it."""
    error: str | None = None
    """QEMU's message if they can't be read, which may be ""; else None."""
    bad: int | None = None
    """Where reading failed; None if it did not fail, or only at the end of the text."""
    is_curable: bool = False
    """Whether more text after them could correct the error."""
    flags: tuple[Parameter, ...] = ()
    """The flags that could follow at the end of the text."""
    awaited: Parameter | None = None
    """The argument that could follow there."""


NO_ARGUMENTS = Arguments({})


def read_arguments(command: Command, text: str, start: int, *, is_typed: bool = False) -> Arguments:
    """Read ``text`` from ``start`` on as the command's arguments. Raises only HxError.

    ``is_typed``: the line is still being typed, so a bare word with a space after it is a flag.
    """
    return _Reader(command, text, start, is_typed).read()


class _Reader:
    def __init__(self, command: Command, text: str, position: int, is_typed: bool) -> None:
        self._is_typed = is_typed
        self._command = command
        self._text = text
        self._position = self._started = position
        self._values: Values = {}
        self._pieces: list[Piece] = []
        self._format_read: Format | None = None
        self._free_flags: list[Parameter] = []
        self._awaited: Parameter | None = None
        self._may_differ = False
        """Whether more text could change how the last piece is read."""

    def read(self) -> Arguments:
        error = bad = None
        is_curable = False
        try:
            self._read()
        except ReadError as problem:
            error = str(problem)
            is_curable = problem.is_curable or self._may_differ
            bad = skip_space(self._text, self._started)
        return Arguments(
            self._values,
            tuple(self._pieces),
            self._format_read,
            error,
            None if bad == len(self._text) else bad,
            is_curable,
            tuple(self._free_flags),
            self._awaited,
        )

    def _read(self) -> None:
        parameters = self._command.parameters
        number = 0
        while number < len(parameters):
            if parameters[number].is_flag:
                number = self._flags(number)
            else:
                self._argument(parameters[number])
                number += 1
        self._skip_space()
        self._started = self._position
        if self._position < len(self._text):
            raise self._error(EXTRANEOUS)

    def _argument(self, parameter: Parameter) -> None:
        self._skip_space()
        self._started = self._position
        if parameter.dotted:
            if self._ahead() != ".":
                return
            self._position += 1
        if self._started == len(self._text) and parameter.kind != "/":
            self._awaited = self._awaited or parameter
            if parameter.optional:
                return
        if parameter.kind == "T" and parameter.optional and self._ahead() not in _NUMBER_BEGINS:
            return
        if parameter.kind == "/":
            self._format_read = self._format()
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
                "T": lambda: self._number(SECONDS),
                "f": lambda: self._number(SCALES),
                "b": self._switch,
            }
            self._values[parameter.key] = readers[parameter.kind]()
        self._note(PieceKind.ARGUMENT, parameter)

    def _note(self, kind: PieceKind, parameter: Parameter) -> None:
        """Add the text since ``started`` as a piece, without white space at its end."""
        end = len(self._text[: self._position].rstrip(SPACE))
        if end > self._started:
            self._pieces.append(Piece(self._started, end, kind, parameter))
        self._started = self._position

    def _flags(self, number: int) -> int:
        """Read flags and their bare words from parameter ``number`` on; return the first argument's number.

        A flag is taken or skipped as in QEMU: it is skipped if the dash and letter on the line stand anywhere
        in the rest of the table's ``args_type``, even in a key such as ``snapshot-file``. A dash after the
        last flag begins an argument. Flags in another order are accepted if one is not used yet.
        """
        parameters = self._command.parameters
        end = next((n for n in range(number, len(parameters)) if not parameters[n].is_flag), len(parameters))
        free = list(parameters[number:end])
        while free:
            self._skip_space()
            self._started = self._position
            if self._started == len(self._text):
                self._free_flags += free
                break
            if self._ahead() != "-":
                flag = self._bare_word(free, goes_on=len(free) > 1 or end < len(parameters))
                if flag is None:
                    break
                self._take_flag(flag, PieceKind.BARE_WORD)
                free.remove(flag)
                continue
            letter = self._text[self._position + 1 : self._position + 2]
            self._may_differ |= not letter
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
        """Return the rest of the table's ``args_type`` after the letter of flag ``number``."""
        flag, *rest = self._command.parameters[number:]
        return ",".join(["s" if flag.takes_value else "", *map(str, rest)])

    def _take_flag(self, flag: Parameter, kind: PieceKind) -> None:
        self._note(kind, flag)
        if not flag.takes_value:
            self._values[flag.key] = True
            return
        self._values[flag.key] = self._word(f"value expected for -{flag.letter}")
        self._started = skip_space(self._text, self._started)
        self._note(PieceKind.ARGUMENT, flag)

    def _bare_word(self, free: list[Parameter], goes_on: bool) -> Parameter | None:
        """Read a bare word as its flag; return the flag or None. At the end of the text it is an argument.

        ``goes_on``: whether anything may follow the word.
        """
        word = read_word(self._text, self._position)
        if word is None or word.quoted:
            return None
        if (word.end if self._is_typed else skip_space(self._text, word.end)) == len(self._text):
            is_whole = word.end < len(self._text)
            self._may_differ = goes_on and any(
                flag.word == word.text if is_whole else flag.word.startswith(word.text) for flag in free
            )
            return None
        flag = next((flag for flag in free if flag.word == word.text), None)
        if flag is not None:
            self._position = word.end
        return flag

    def _word(self, problem: str) -> str:
        word = read_word(self._text, self._position)
        if word is None:
            raise self._error(problem, is_curable=is_half_word(self._text, self._position))
        self._position = word.end
        return word.text

    def _rest(self, parameter: Parameter) -> str:
        self._awaited = parameter  # more could always follow
        rest = self._text[self._position :]
        if not rest:
            raise self._error("string expected", is_curable=True)
        self._position = len(self._text)
        return rest

    def _options(self, parameter: Parameter) -> None:
        if self._position == len(self._text):
            return
        word = read_word(self._text, self._position)
        if word is None:
            raise ReadError("", is_curable=is_half_word(self._text, self._position))
        self._position = word.end
        try:
            self._values.update(read_options(word.text, parameter.key))
        except ReadError as error:
            error.is_curable = error.is_curable and word.end == len(self._text) and not word.quoted
            raise

    def _integer(self, kind: str) -> int:
        value, self._position = evaluate(self._text, self._position)
        self._may_differ |= is_half_hex(self._text, self._position)
        goes_on = self._position == len(self._text)  # an operator may follow and change the value
        if kind == "i" and value >> 32:
            problem = f"'{self._command.name}' has failed: integer is for 32-bit values"
            raise ReadError(problem, is_curable=goes_on)
        if kind == "M":
            if value < 0:
                raise ReadError("enter a positive value", is_curable=goes_on)
            value = wrap(value * MIB)
        return value

    def _size(self) -> int:
        value, self._position = read_bytes(self._text, self._position)
        self._may_differ |= is_half_hex(self._text, self._position)
        return value

    def _number(self, units: Mapping[str, float]) -> float:
        value, self._position = read_double(self._text, self._position, units)
        return value

    def _switch(self) -> bool:
        end = self._position
        while end < len(self._text) and "!" <= self._text[end] <= "~":
            end += 1
        word = self._text[self._position : end]
        if word not in ("on", "off"):
            is_half = end == len(self._text) and ("on".startswith(word) or "off".startswith(word))
            raise ReadError("Expected 'on' or 'off'", is_curable=is_half)
        self._position = end
        return word == "on"

    def _format(self) -> Format:
        if self._ahead() != "/":
            return Format()
        match = _FORMAT.match(self._text, self._position)
        assert match is not None
        self._position = match.end()
        if self._ahead() not in SPACE:
            raise ReadError(f"invalid char in format: '{first_byte(self._ahead())}'")
        letter, size_bytes = "", 0
        for each in match["letters"]:
            if each in _SIZE_BYTES:
                size_bytes = _SIZE_BYTES[each]
            else:
                letter = each
        return Format(_wrap32(int(match["count"][-32:] or 1)), letter, size_bytes)

    def _skip_space(self) -> None:
        self._position = skip_space(self._text, self._position)

    def _ahead(self) -> str:
        return self._text[self._position : self._position + 1]

    def _error(self, problem: str, *, is_curable: bool = False) -> ReadError:
        return ReadError(f"{self._command.name}: {problem}", is_curable=is_curable)

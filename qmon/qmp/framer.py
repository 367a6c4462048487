"""Finds JSON values in a stream of bytes that has no delimiters between them. Pure."""

from __future__ import annotations

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from qmon.errors import CommandError
from qmon.host.budget import Budget
from qmon.qmp.json_builder import JsonBuilder

MAX_TOKEN_SIZE = 64 << 20
MAX_TOKEN_COUNT = 2 << 20
MAX_NESTING = 1024
"""The limits of one message (QEMU, qobject/json-streamer.c)."""

SMALL_SIZE = 64 << 10
SMALL_NESTING = 100
"""A message within these limits is handled and answered at once."""

BUDGET = Budget(96 << 20)
"""The memory limit of all clients' large messages together, counted by the two figures below."""
_TOKEN_BYTES = 40
"""The memory of a token besides its text. Measured in the worst case, objects with one member."""
_STEP = 1 << 20
"""Each client may use this much freely; more is taken from the budget in steps of this size."""

_LINE_MAX = 4096
_WORD_MAX = 1024
"""The longest line outside brackets and the longest number that are kept."""

# A control character, or a byte that UTF-8 never uses, ends and refuses the value that it is in. A client can
# reset the parser with it (QEMU, docs/interop/qmp-spec: "Forcing the JSON parser into known-good state").
# Bytes that are not UTF-8 are surrogates here (PEP 383).
_BREAK = r"\x00-\x08\x0b\x0c\x0e-\x1f\udcfe\udcff"
_BAD = r"\udc80-\udcfd"
_SPACE = re.compile(r"[ \t\r\n]*+")
_LINE_END = re.compile(f"[\n{_BREAK}]")
_PASSED_OVER = re.compile(rf'[^"{{}}\[\]{_BREAK}]*+')
_WORD = re.compile(rf'[^ \t\r\n{{}}\[\]:,"{_BREAK}]*+')
_PLAIN = rf'[^"\\\x00-\x1f{_BAD}\udcfe\udcff]++'
_STRING = re.compile(rf"(?:{_PLAIN}|\\[^u\x00-\x1f{_BAD}\udcfe\udcff]|\\u[0-9a-fA-F]{{4}})*+")
_ESCAPE_SO_FAR = re.compile(r"\\(?:u[0-9a-fA-F]{0,3})?")
_ESCAPE = re.compile(r"\\(?:u(....)|(.))", re.DOTALL)
_ESCAPES = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "/": "/", "\\": "\\", '"': '"'}
_PAIR = re.compile("[\ud800-\udbff][\udc00-\udfff]")


class JsonFramer:
    """Takes bytes in pieces of any size; yields each complete JSON value, or an error for invalid text.

    A value ends where its brackets close, without a line end. It is built while it arrives; its text is not
    kept. A value that is too large is refused at once, and the rest of it is skipped. Text outside brackets
    is refused as a whole, up to the end of its line.
    """

    def __init__(
        self, budget: Budget = BUDGET, max_size: int = MAX_TOKEN_SIZE, max_count: int = MAX_TOKEN_COUNT
    ) -> None:
        self._budget = budget
        self._max_size = max_size
        self._max_count = max_count
        self._taken = 0
        self._decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
        self._text = ""
        self._position = 0
        self._starved = False
        """Whether the remaining text is an incomplete escape."""
        self._restart()

    @property
    def is_small(self) -> bool:
        """Whether the last yielded value is within the limits of a small message."""
        return self._size <= SMALL_SIZE and self._deepest <= SMALL_NESTING

    def close(self) -> None:
        """Drop an incomplete value."""
        self._restart()

    def _restart(self) -> None:
        self._budget.give(self._taken)
        self._taken = 0
        self._tokens = 0
        self._size = 0
        self._depth = 0
        self._deepest = 0
        self._line: str | None = None
        self._word = ""
        self._in_string = False
        self._pieces: list[str] = []
        self._width, self._length = 1, 0
        self._builder: JsonBuilder | None = JsonBuilder()
        self._told = False

    def feed(self, data: bytes) -> Iterator[Any | CommandError]:
        """Add bytes; yield each value or error that is complete. The framer keeps no yielded value."""
        self._text = self._text[self._position :] + self._decode(data)
        self._position = 0
        while self._position < len(self._text):
            try:
                found = self._step()
            except _LimitError as limit:
                self._builder = None
                self._pieces.clear()
                if not self._told:
                    self._told = True
                    yield CommandError(str(limit))
                if not self._depth:
                    self._restart()
                continue
            if found is not None:
                if not self._told:
                    yield found[0]
                self._restart()
            elif self._starved:
                self._starved = False
                return

    def _step(self) -> tuple[Any | CommandError] | None:
        """Read about one token; return the value or error that it completes, as a tuple, or None."""
        if self._line is not None:
            return self._step_line(self._line)
        if self._in_string:
            return self._step_string()
        if self._depth == 0:
            return self._step_outside()
        return self._step_inside()

    def _step_outside(self) -> tuple[Any | CommandError] | None:
        self._skip_space()
        match self._text[self._position : self._position + 1]:
            case "{" | "[":
                return self._step_inside()
            case "}" | "]":
                self._position += 1
                return (_syntax_error(),)
            case "":
                pass
            case _:
                return self._step_line("")
        return None

    def _step_line(self, line: str) -> tuple[Any | CommandError] | None:
        match = _LINE_END.search(self._text, self._position)
        end = len(self._text) if match is None else match.end()
        line += self._text[self._position : end][: _LINE_MAX + 1 - len(line)]
        self._line = line
        self._position = end
        if match is None:
            return None
        try:
            if len(line) > _LINE_MAX:
                raise ValueError
            line.encode()
            return (json.loads(line, parse_constant=_refuse_constant),)
        except (ValueError, RecursionError):
            return (_syntax_error(),)

    def _step_inside(self) -> tuple[Any | CommandError] | None:
        pattern = _WORD if self._builder is not None else _PASSED_OVER
        match = pattern.match(self._text, self._position)
        assert match is not None
        if match.group():
            self._word += match.group()[: _WORD_MAX + 1 - len(self._word)]
            self._position = match.end()
        if self._position == len(self._text):
            return None
        if self._word:
            self._end_word()
            return None
        character = self._text[self._position]
        self._position += 1
        if character in " \t\r\n":
            self._skip_space()
            return None
        if character == '"':
            self._in_string = True
            return None
        if character in "{}[],:":
            return self._take_structure(character)
        return (_syntax_error(),)

    def _skip_space(self) -> None:
        match = _SPACE.match(self._text, self._position)
        assert match is not None
        self._position = match.end()

    def _end_word(self) -> None:
        word, self._word = self._word, ""
        self._count(1, len(word))
        if self._builder is not None:
            try:
                if len(word) > _WORD_MAX:
                    raise ValueError
                self._builder.word(word)
            except ValueError:
                self._builder = None

    def _take_structure(self, character: str) -> tuple[Any | CommandError] | None:
        if character in "{[":
            self._depth += 1
            self._deepest = max(self._deepest, self._depth)
        elif character in "}]":
            self._depth -= 1
        builder = self._builder
        if builder is not None:
            try:
                builder.structure(character)
            except ValueError:
                builder = self._builder = None
        self._count(1, 1)
        if self._depth > 0:
            return None
        return (builder.value if builder is not None else _syntax_error(),)

    def _step_string(self) -> tuple[Any | CommandError] | None:
        text = self._text
        match = _STRING.match(text, self._position)
        assert match is not None
        self._position = match.end()
        self._keep(match.group())
        match text[self._position : self._position + 1]:
            case "":
                pass
            case '"':
                self._position += 1
                self._end_string()
            case "\\":
                if _ESCAPE_SO_FAR.fullmatch(text, self._position) is not None:
                    self._starved = True
                else:
                    self._builder = None
                    self._position += 1
            case character if "\udc80" <= character <= "\udcfd":
                self._builder = None
                self._position += 1
            case _:
                self._position += 1
                return (_syntax_error(),)
        return None

    def _keep(self, piece: str) -> None:
        """Keep a piece of a string, with its escapes decoded."""
        if not piece:
            return
        if "\\" in piece:
            try:
                piece = _ESCAPE.sub(_unescape, piece)
            except KeyError:
                self._builder = None
        if self._pieces and "\ud800" <= self._pieces[-1][-1:] <= "\udbff":
            piece = self._pieces.pop() + piece
        width = 1
        if not piece.isascii():
            piece = _PAIR.sub(_join_pair, piece)
            widest = max(piece)
            width = 4 if widest > "\uffff" else 2 if widest > "\xff" else 1
        if self._builder is not None:
            self._pieces.append(piece)
        # Joining the pieces makes all characters of the string as wide as the widest of them.
        wider = max(0, width - self._width) * self._length
        self._width = max(width, self._width)
        self._length += len(piece)
        self._count(0, wider + len(piece) * self._width)

    def _end_string(self) -> None:
        self._in_string = False
        self._width, self._length = 1, 0
        string = "".join(self._pieces)
        self._pieces.clear()
        self._count(1, 2)
        if self._builder is not None:
            try:
                self._builder.string(string)
            except ValueError:
                self._builder = None

    def _count(self, tokens: int, size: int) -> None:
        """Count held tokens and bytes. Raises _LimitError."""
        self._tokens += tokens
        self._size += size
        if self._builder is None:
            return
        if self._size > self._max_size:
            raise _LimitError("JSON token size limit exceeded")
        if self._tokens > self._max_count:
            raise _LimitError("JSON token count limit exceeded")
        if self._depth > MAX_NESTING:
            raise _LimitError("JSON nesting depth limit exceeded")
        while self._size + self._tokens * _TOKEN_BYTES > self._taken + _STEP:
            if not self._budget.take(_STEP):
                raise _LimitError("JSON token size limit exceeded")
            self._taken += _STEP


class _LimitError(Exception):
    """A message is too large."""


def _syntax_error() -> CommandError:
    return CommandError("JSON parse error, invalid syntax")


def _unescape(match: re.Match[str]) -> str:
    """Raises KeyError."""
    digits, letter = match.groups()
    return chr(int(digits, 16)) if digits else _ESCAPES[letter]


def _join_pair(match: re.Match[str]) -> str:
    high, low = map(ord, match.group())
    return chr(0x10000 + ((high & 0x3FF) << 10) + (low & 0x3FF))


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

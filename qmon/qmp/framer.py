"""Finds JSON values in a stream of bytes that has no delimiters between them, as QEMU does. Pure."""

from __future__ import annotations

import codecs
import re
from collections.abc import Callable, Iterator
from enum import Enum, auto
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.host.budget import Budget
from qmon.notation.json_builder import JsonBuilder
from qmon.notation.json_tokens import (
    STRUCTURE,
    Stop,
    keyword_value,
    number_end,
    read_string,
    skip_string,
    stray,
)

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

_SHOWN = 40
_TOKEN_MAX = 1024
"""The longest number and keyword, and the most of a string that an error message shows, in characters."""

_SPACE = re.compile(r"[ \t\r\n]*+")
_SKIPPED = re.compile(r"""[^"'{}\[\]\x00-\x08\x0b\x0c\x0e-\x1f\udcfe\udcff]*+""")
_KEYWORD = re.compile("[a-z]*+")
_LOST = re.compile(r"[^\x00-\x08\x0a-\x1f\udcfe\udcff{}\[\]:,]*+")
"""What is passed over after a character that begins no token."""


_Found = tuple[Any | CommandError] | None


class _Token(Enum):
    """The token that is being read."""

    NONE = auto()
    NUMBER = auto()
    KEYWORD = auto()
    STRING = auto()


class JsonFramer:
    """Takes bytes in pieces of any size; yields each complete JSON value, or an error for invalid text.

    A value ends where its brackets close, without a line end. It is built while it arrives; its text is not
    kept. A value that is too large is refused at once, and the rest of it is skipped. A control character,
    or a byte that UTF-8 never uses, ends and refuses the value that it is in. A client can reset the parser
    with it (QEMU, docs/interop/qmp-spec: "Forcing the JSON parser into known-good state").
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
        self._is_lost = False
        """Whether a character that begins no token is not yet followed by one that does."""
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
        self._braces = self._brackets = 0
        self._deepest = 0
        self._token = _Token.NONE
        self._word = ""
        """What was read of a number or keyword; of a string its beginning, for an error message."""
        self._quote = ""
        self._pieces: list[str] = []
        self._width, self._length = 1, 0
        self._builder: JsonBuilder | None = JsonBuilder()
        self._fault = ""
        """What is wrong with the value, told when its brackets have closed."""
        self._told = False

    def feed(self, data: bytes) -> Iterator[Any | CommandError]:
        """Add bytes; yield each value or error that is complete. The framer keeps no yielded value."""
        self._text = self._text[self._position :] + self._decode(data)
        self._position = 0
        self._starved = False
        while self._position < len(self._text) and not self._starved:
            try:
                found = self._step()
            except _LimitError as limit:
                self._drop()
                if not self._told:
                    self._told = True
                    yield CommandError(str(limit))
                if self._is_complete:
                    self._restart()
                continue
            if found is not None:
                if not self._told:
                    yield found[0]
                self._restart()

    def _drop(self, fault: str = "") -> None:
        """Keep nothing of the value any more, and the first fault that it has."""
        self._fault = self._fault or fault
        self._builder = None
        self._pieces.clear()

    @property
    def _is_complete(self) -> bool:
        """Whether the value ends here: its brackets have closed, or more closed than were opened."""
        if self._token is _Token.STRING:
            return False
        return self._braces < 0 or self._brackets < 0 or self._braces == self._brackets == 0

    def _step(self) -> _Found:
        """Read about one token; return the value or error that it completes, as a tuple, or None."""
        if self._is_lost:
            return self._find_way()
        match self._token:
            case _Token.NUMBER:
                return self._step_number()
            case _Token.KEYWORD:
                return self._step_keyword()
            case _Token.STRING:
                return self._step_string()
        return self._begin_token()

    def _find_way(self) -> _Found:
        """Pass over what follows a character that begins no token."""
        self._position = _end(_LOST, self._text, self._position)
        self._is_lost = self._position == len(self._text)
        return None

    def _begin_token(self) -> _Found:
        self._position = _end(_SKIPPED if self._told else _SPACE, self._text, self._position)
        character = self._text[self._position : self._position + 1]
        if not character:
            return None
        if character in STRUCTURE:
            self._position += 1
            return self._take_structure(character)
        if character in "\"'":
            self._position += 1
            self._token, self._quote, self._word = _Token.STRING, character, character
            self._try(lambda builder: builder.expect_value())
        elif character == "-" or character in "0123456789":
            self._token = _Token.NUMBER
        elif "a" <= character <= "z":
            self._token = _Token.KEYWORD
        else:
            self._position += 1
            return self._stray("", character)
        return None

    def _stray(self, token: str, character: str) -> _Found:
        self._is_lost = True
        return (CommandError(str(stray(token, character))),)

    def _try(self, take: Callable[[JsonBuilder], None]) -> None:
        """Let the builder take something, and note what is wrong with it."""
        if self._builder is not None:
            try:
                take(self._builder)
            except UsageError as error:
                self._drop(str(error))

    def _step_number(self) -> _Found:
        begun = len(self._word)
        word = self._word + self._text[self._position : self._position + _TOKEN_MAX + 1 - begun]
        end, is_whole = number_end(word, 0)
        self._position += end - begun
        self._word = word[:end]
        if end > _TOKEN_MAX:
            return self._stray(f"{word[:_SHOWN]}...", "")
        if end == len(word):
            return None
        if not is_whole:
            self._position += 1
            return self._stray(word[:end], word[end])
        return self._end_token(lambda builder: builder.number(word[:end]))

    def _step_keyword(self) -> _Found:
        end = _end(_KEYWORD, self._text, self._position)
        self._word += self._text[self._position : end][: _TOKEN_MAX - len(self._word)]
        self._position = end
        if end == len(self._text):
            return None
        word = self._word
        return self._end_token(lambda builder: builder.scalar(keyword_value(word)))

    def _end_token(self, take: Callable[[JsonBuilder], None]) -> _Found:
        """Let the builder take a scalar. Raises _LimitError."""
        self._token = _Token.NONE
        word, self._word = self._word, ""
        self._try(lambda builder: builder.expect_value())
        self._try(take)
        self._count(1, len(word))
        return self._value()

    def _take_structure(self, character: str) -> _Found:
        self._braces += (character == "{") - (character == "}")
        self._brackets += (character == "[") - (character == "]")
        self._deepest = max(self._deepest, self._braces + self._brackets)
        self._try(lambda builder: builder.structure(character))
        self._count(1, 1)
        return self._value()

    def _value(self) -> _Found:
        """Return the value or its error if it ends here."""
        if not self._is_complete:
            return None
        if self._builder is None:
            return (CommandError(self._fault),)
        try:
            return (self._builder.finish(),)
        except UsageError as error:
            return (CommandError(str(error)),)

    def _step_string(self) -> _Found:
        start = self._position
        if self._builder is not None:
            try:
                piece, self._position, stop = read_string(self._text, start, self._quote)
            except UsageError as error:
                self._drop(str(error))
            else:
                self._keep(piece)
        if self._builder is None:
            self._position, stop = skip_string(self._text, start, self._quote)
            self._count(0, self._position - start)
        if len(self._word) < _TOKEN_MAX:
            self._word += self._text[start : self._position][: _TOKEN_MAX - len(self._word)]
        match stop:
            case Stop.MORE:
                self._starved = True
                return None
            case Stop.BREAK:
                if len(self._word) == _TOKEN_MAX:
                    return self._stray(f"{self._word}...", "")
                return self._stray(self._word, "")
        string = "".join(self._pieces)
        self._pieces.clear()
        self._width, self._length = 1, 0
        self._word = ""
        self._size += 2
        return self._end_token(lambda builder: builder.scalar(string))

    def _keep(self, piece: str) -> None:
        """Keep a piece of a string. Raises _LimitError."""
        if not piece:
            return
        width = 1
        if not piece.isascii():
            widest = max(piece)
            width = 4 if widest > "\uffff" else 2 if widest > "\xff" else 1
        self._pieces.append(piece)
        # Joining the pieces makes all characters of the string as wide as the widest of them.
        wider = max(0, width - self._width) * self._length
        self._width = max(width, self._width)
        self._length += len(piece)
        self._count(0, wider + len(piece) * self._width)

    def _count(self, tokens: int, size: int) -> None:
        """Count held tokens and bytes. Raises _LimitError."""
        self._tokens += tokens
        self._size += size
        if self._told:
            return
        if self._size > self._max_size:
            raise _LimitError("JSON token size limit exceeded")
        if self._tokens > self._max_count:
            raise _LimitError("JSON token count limit exceeded")
        if self._braces + self._brackets > MAX_NESTING:
            raise _LimitError("JSON nesting depth limit exceeded")
        while self._builder and self._size + self._tokens * _TOKEN_BYTES > self._taken + _STEP:
            if not self._budget.take(_STEP):
                raise _LimitError("JSON token size limit exceeded")
            self._taken += _STEP


class _LimitError(Exception):
    """A message is too large."""


def _end(pattern: re.Pattern[str], text: str, position: int) -> int:
    match = pattern.match(text, position)
    assert match is not None
    return match.end()

"""Finds JSON values in a stream of text that needs no line ends between them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, NoReturn

from qmon.errors import CommandError

MAX_MESSAGE = 64 << 20
"""Bytes that one message may have (QEMU: MAX_TOKEN_SIZE)."""

MAX_NESTING = 500
"""Braces within braces: half of what Python's JSON goes down to, so that an id can be sent back."""

# A control character or a byte that no UTF-8 has ends whatever it is in, which is then refused: a client can
# make itself heard again so (QEMU, docs/interop/qmp-spec: "Forcing the JSON parser into known-good state").
_BREAK = rb"\x00-\x08\x0b\x0c\x0e-\x1f\xfe\xff"
_OUTSIDE = re.compile(rb"\S")
_REFUSED_END = re.compile(rb"[\n" + _BREAK + rb"]")
_STRUCTURE = re.compile(rb'["{}\[\]' + _BREAK + rb"]")
_IN_STRING = re.compile(rb'["\\\t\n\r' + _BREAK + rb"]")


class JsonFramer:
    """Takes bytes in pieces of any size; yields each whole JSON value, or the error of what is none.

    A value ends where its braces close, so nothing waits for a line end. Text outside braces is refused
    as a whole, up to the end of its line.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._restart()

    def _restart(self) -> None:
        self._scanned = 0
        self._depth = 0
        self._deepest = 0
        self._in_string = False
        self._refusing = False

    def feed(self, data: bytes) -> Iterator[Any | CommandError]:
        """Yield what is complete now."""
        self._pending += data
        while (end := self._find_end()) is not None:
            text = bytes(self._pending[:end])
            del self._pending[:end]
            too_deep = self._deepest > MAX_NESTING
            self._restart()
            yield CommandError("JSON nesting depth limit exceeded") if too_deep else self._decode(text)
        if len(self._pending) > MAX_MESSAGE:
            self._pending.clear()
            self._restart()
            yield CommandError("JSON token size limit exceeded")

    @staticmethod
    def _decode(text: bytes) -> Any | CommandError:
        try:
            return json.loads(text.decode(), parse_constant=_refuse_constant)
        except ValueError:
            return CommandError("JSON parse error, invalid syntax")

    def _find_end(self) -> int | None:
        """Where the first value ends, if it does; what was looked at is not looked at again."""
        if self._depth == 0 and not self._refusing:
            match = _OUTSIDE.search(self._pending, self._scanned)
            if match is None:
                self._pending.clear()
                self._scanned = 0
                return None
            self._scanned = match.start()
            match match.group():
                case b"{" | b"[":
                    pass
                case b"}" | b"]":
                    return match.end()
                case _:
                    self._refusing = True
        return self._find_refused_end() if self._refusing else self._find_closing()

    def _find_refused_end(self) -> int | None:
        match = _REFUSED_END.search(self._pending, self._scanned)
        if match is not None:
            return match.end()
        self._scanned = len(self._pending)
        return None

    def _find_closing(self) -> int | None:
        while True:
            pattern = _IN_STRING if self._in_string else _STRUCTURE
            match = pattern.search(self._pending, self._scanned)
            if match is None:
                self._scanned = len(self._pending)
                return None
            self._scanned = match.end()
            match match.group():
                case b"\\":
                    escaped = bytes(self._pending[match.end() : match.end() + 1])
                    if not escaped:
                        self._scanned = match.start()  # what it escapes has not come yet
                        return None
                    if escaped in (b'"', b"\\"):
                        self._scanned += 1
                case b'"':
                    self._in_string = not self._in_string
                case b"{" | b"[":
                    self._depth += 1
                    self._deepest = max(self._deepest, self._depth)
                case b"}" | b"]":
                    self._depth -= 1
                    if self._depth == 0:
                        return match.end()
                case _:
                    return match.end()


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")

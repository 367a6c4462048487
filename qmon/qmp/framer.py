"""Finds JSON values in a stream of text that needs no line ends between them. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from qmon.errors import CommandError

MAX_MESSAGE = 64 << 20
"""Bytes that one message may have (QEMU: MAX_TOKEN_SIZE)."""

_STRUCTURE = re.compile(rb'["\\{}\[\]]|[^\s"\\{}\[\]]')
_IN_STRING = re.compile(rb'["\\]')


class JsonFramer:
    """Takes bytes in pieces of any size; yields each whole JSON value, or the error of what is none.

    A value ends where its braces close, so nothing waits for a line end. Text outside braces is refused
    as a whole, up to the end of its line.
    """

    def __init__(self) -> None:
        self._pending = bytearray()
        self._scanned = 0
        self._depth = 0
        self._in_string = False

    def feed(self, data: bytes) -> Iterator[Any | CommandError]:
        """Yield what is complete now."""
        self._pending += data
        while (end := self._find_end()) is not None:
            text = bytes(self._pending[:end])
            del self._pending[:end]
            self._scanned, self._depth, self._in_string = 0, 0, False
            if text.strip():
                yield self._decode(text)
        if len(self._pending) > MAX_MESSAGE:
            self._pending.clear()
            self._scanned, self._depth, self._in_string = 0, 0, False
            yield CommandError("JSON token size limit exceeded")

    @staticmethod
    def _decode(text: bytes) -> Any | CommandError:
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return CommandError("JSON parse error, invalid syntax")

    def _find_end(self) -> int | None:
        """Where the first value ends, if it does; what was looked at is not looked at again."""
        while True:
            pattern = _IN_STRING if self._in_string else _STRUCTURE
            match = pattern.search(self._pending, self._scanned)
            if match is None:
                self._scanned = len(self._pending)
                return None
            byte = match.group()
            if byte == b"\\":
                if match.end() == len(self._pending):
                    self._scanned = match.start()  # what it escapes has not come yet
                    return None
                self._scanned = match.end() + 1
                continue
            self._scanned = match.end()
            if byte == b'"':
                self._in_string = not self._in_string
            elif byte in (b"{", b"["):
                self._depth += 1
            elif byte in (b"}", b"]"):
                self._depth -= 1
                if self._depth <= 0:
                    return self._scanned
            elif self._depth == 0:
                end = self._pending.find(b"\n", match.start())
                if end < 0:
                    self._scanned = match.start()
                    return None
                return end + 1

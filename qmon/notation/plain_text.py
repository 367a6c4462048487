"""Escapes characters that would control a terminal. Pure.

Names, errors and offers come from peers, images and file systems, and may contain anything. They are escaped
only on output: ``plain`` for text that goes to a terminal, a client's socket, standard error or a log,
``one_line`` for a name or message that becomes part of a line.
"""

from __future__ import annotations

import io
import re
from typing import Any, TextIO

# Control characters (C0, DEL, C1, and C1 bytes that are not UTF-8), characters that change the direction of
# text or have no width, and Unicode's own line ends.
_UNSEEN = (
    "\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff"
    "\udc80-\udc9f\U000e0000-\U000e007f"
)
_NOT_PLAIN = re.compile(f"[{_UNSEEN}]")
_NOT_IN_LINE = re.compile(f"[{_UNSEEN}\t\n]")


def plain(text: str) -> str:
    """Return the text with escapes such as ``\\x1b`` for invisible characters; tabs and line ends stay."""
    return _NOT_PLAIN.sub(_escape, text)


def one_line(text: str) -> str:
    """As ``plain``, with escapes for tabs and line ends too."""
    return _NOT_IN_LINE.sub(_escape, text)


def visible(line: str) -> str:
    """Return a line that is being typed with ``?`` for each invisible character."""
    return _NOT_IN_LINE.sub("?", line)


def in_one_line(value: Any) -> Any:
    """Apply ``one_line`` to every string in a JSON value, except the names of members."""
    if isinstance(value, str):
        return one_line(value)
    if isinstance(value, list):
        return [in_one_line(item) for item in value]
    if isinstance(value, dict):
        return {name: in_one_line(member) for name, member in value.items()}
    return value


def _escape(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # a byte that is not UTF-8 (PEP 383)
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


class PlainStream(io.TextIOBase):
    """A text stream that applies ``plain`` to everything written to it."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(plain(text))
        return len(text)

    def writable(self) -> bool:
        return True

    def flush(self) -> None:
        self._stream.flush()

    def fileno(self) -> int:
        return self._stream.fileno()

    def isatty(self) -> bool:
        return self._stream.isatty()

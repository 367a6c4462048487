"""What a human monitor on a socket sends while it carries out a line: the echo, the answer, the prompt. Pure.

The monitor echoes each key with the whole line and control sequences (QEMU, util/readline.c). So a line
of n bytes has an echo of about 2 n² bytes. Nothing but the prompt ends the answer, and an answer may contain
the prompt's text. Hence a mark is typed behind the line: a word that nobody can know in advance. It is never
entered. When the monitor shows it, the prompt is there and the answer is complete.
"""

from __future__ import annotations

import re
import secrets

from qmon.errors import CommandError

PROMPT = b"(qemu) "
ENTER = b"\r"
_BACKSPACE = b"\x7f"
ERASE_LINE = b"\x1b[K"

LINE_MAX = 4095
"""The most bytes of a line; a monitor drops the others (QEMU, include/qemu/readline.h)."""

ANSWER_MAX = 16 << 20
"""The longest answer in bytes."""

_AFTER_LINE = re.compile(rb"(?:\x1b\[[CD])*\r?\n\Z")
_CURSOR = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRESS = re.compile(rb"(?:Completed +\d+ %\r)+(?:\r?\n)?")
"""What a ``migrate`` without ``-d`` prints over and over in one row."""

_ASKS = re.compile(r"\s*change\s+vnc\s+passw(?:or)?d\s*")
"""The line that makes a monitor ask for a password."""
_PASSWORD = re.compile(rb"\nPassword: (?:\*|\x1b\[[DK])*\Z")
_TAIL = 1 << 10
"""How much of a long echo is kept besides the length of the line."""


def checked_line(line: str) -> bytes:
    """Return a line as it is typed. Raises CommandError for one that the monitor would read differently."""
    for character in line:
        # the byte 0x9b begins a control sequence even inside a character (QEMU 7.2 and 10)
        if character < " " or character == "\x7f" or 0x9B in character.encode("utf-8", "surrogateescape"):
            raise CommandError(f"a human monitor can't read the character {character!a} in a line")
    if _ASKS.fullmatch(line):
        raise CommandError("a password can't be asked for here: write it at the end of the line")
    typed = line.encode("utf-8", "surrogateescape")
    if len(typed) > LINE_MAX:
        raise CommandError(f"the line has {len(typed)} bytes: a human monitor reads at most {LINE_MAX}")
    return typed


class Exchange:
    """One line and its answer. ``typed`` is what to send for it."""

    def __init__(self, line: str, erase: bytes = b"", mark: bytes | None = None) -> None:
        """``erase`` is that of the exchange before. Raises CommandError (``checked_line``)."""
        self._line = checked_line(line)
        self._mark = b"#" + secrets.token_hex(5).encode() if mark is None else mark
        self._shown_mark = self._mark + ERASE_LINE
        self.typed = erase + self._line + ENTER + self._mark
        self.erase = _BACKSPACE * len(self._mark)
        """Removes the mark from the prompt; to be typed before the next line."""
        self._text = bytearray()
        self._searched = 0
        self._rows: list[bytes] | None = []
        """The rows up to the end of the echo; None when that is over."""
        self._unasked = b""
        self._too_long = False

    def feed(self, data: bytes) -> bool:
        """Take what the monitor has sent; return whether the answer is complete."""
        self._text += data
        if self._rows is not None:
            self._skip_echo(self._rows)
        end = self._text.find(self._shown_mark, max(0, self._searched - len(self._shown_mark)))
        self._searched = len(self._text)
        if end >= 0:
            self._finish(end)
            return True
        if self._rows is None and len(self._text) > ANSWER_MAX:
            self._too_long = True
            del self._text[:-_TAIL]
            self._searched = len(self._text)
        return False

    @property
    def asks_password(self) -> bool:
        """Whether the monitor waits for a password instead of showing its prompt."""
        return _PASSWORD.search(self._text, max(0, len(self._text) - _TAIL)) is not None

    def answer(self) -> str:
        """Return what the line has printed; its rows end with CR LF. Raises CommandError if it is too long.

        Bytes that are not UTF-8 are surrogates (PEP 383).
        """
        if self._too_long:
            raise CommandError(f"the answer is longer than {ANSWER_MAX >> 20} MiB: it is not shown")
        return as_text(_PROGRESS.sub(b"", bytes(self._text)))

    def unasked(self) -> str:
        """Return what the monitor has printed before the line's echo, which the line has not caused."""
        return as_text(self._unasked)

    def _skip_echo(self, rows: list[bytes]) -> None:
        """Move complete rows from the text to ``rows``, up to the one that ends with the line."""
        while (end := self._text.find(b"\n", self._searched)) >= 0:
            row = bytes(self._text[: end + 1])
            del self._text[: end + 1]
            self._searched = 0
            rows.append(row)
            if _AFTER_LINE.sub(b"", row).endswith(self._line + ERASE_LINE):
                self._rows = None
                self._unasked = b"".join(each for each in rows if ERASE_LINE not in each)
                return
        longest = len(self._line) + _TAIL
        if len(self._text) > longest:
            del self._text[:-longest]
        self._searched = len(self._text)
        if sum(map(len, rows)) > ANSWER_MAX:  # the echo was not recognised
            self._rows, self._too_long = None, True

    def _finish(self, end: int) -> None:
        """Remove the prompt, and the echo if it looked differently: then it is the first row that is one."""
        prompt = self._text.rfind(PROMPT, 0, end)
        del self._text[prompt if prompt >= 0 else self._text.rfind(b"\n", 0, end) + 1 :]
        if self._rows is not None:
            echo = next((number for number, row in enumerate(self._rows) if ERASE_LINE in row), -1)
            self._unasked = b"".join(self._rows[: max(echo, 0)])
            self._text[:0] = b"".join(self._rows[echo + 1 :])


def as_text(data: bytes) -> str:
    """Return a monitor's bytes as text; those that are not UTF-8 become surrogates (PEP 383)."""
    return data.decode("utf-8", "surrogateescape")


def without_control(data: bytes) -> bytes:
    """Return bytes without sequences that move a terminal's cursor."""
    return _CURSOR.sub(b"", data)

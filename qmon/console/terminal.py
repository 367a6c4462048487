"""The terminal's input and output: finds pastes in the input, and keeps redraws from disturbing a paste."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TextIO

from prompt_toolkit.input.posix_utils import PosixStdinReader
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, DummyOutput, Output
from prompt_toolkit.output.vt100 import Vt100_Output

BURST_GAP = 0.1
"""Seconds without input that end a burst, and make a lone ESC byte the Escape key.

A terminal on a busy machine sends a long paste in pieces that are some tens of milliseconds apart.
"""

_READ_BYTES = 16384

_ENTER = (Keys.ControlM, Keys.ControlJ)


def is_dumb(term: str | None) -> bool:
    """Whether a terminal of this type can't move its cursor."""
    return term in (None, "", "dumb", "unknown")


def shows_utf8(environ: Mapping[str, str]) -> bool:
    """Whether the locale's characters are UTF-8. Python's own answer is always yes."""
    names = (environ.get(name) for name in ("LC_ALL", "LC_CTYPE", "LANG"))
    return "utf8" in next(filter(None, names), "").lower().replace("-", "")


def plain_text(keys: list[KeyPress]) -> str | None:
    """Return the text that these keys type, with Enter as LF; None if one is neither text, Enter nor TAB."""
    text = []
    for press in keys:
        if press.key in _ENTER:
            text.append("\n")
        elif press.key == Keys.ControlI:
            text.append("\t")
        elif isinstance(press.key, Keys):
            return None
        else:
            text.append(press.data)
    return "".join(text)


class BurstPress(KeyPress):
    """The key of a burst. Unlike a bracketed paste, a program may have typed it."""


class Bursts:
    """Finds text that arrives at once without bracketed paste: one read has an Enter with text after it.

    The keys of such a burst are held until the input pauses, then become one key with the whole text.
    """

    def __init__(self) -> None:
        self._held = ""

    def take(self, keys: list[KeyPress]) -> list[KeyPress]:
        """Take the keys of one read; return those to handle now."""
        text = plain_text(keys)
        if text is None:
            return [*self.release(), *keys]
        if self._held or "\n" in text[:-1]:
            self._held += text
            return []
        return keys

    def release(self) -> list[KeyPress]:
        """End the burst; return it as one key, or nothing if there is no burst."""
        text, self._held = self._held, ""
        return [BurstPress(Keys.BracketedPaste, text)] if text else []


class _Reader(PosixStdinReader):
    """A reader that treats a terminal that has hung up as end of file; prompt_toolkit's own would spin."""

    def ready(self) -> bool:
        """Whether a read would return at once."""
        return bool(select.select([self.stdin_fd], [], [], 0)[0])

    def read(self, count: int = _READ_BYTES) -> str:
        if self.closed or not self.ready():
            return ""
        try:
            data = os.read(self.stdin_fd, count)
        except OSError:
            data = b""  # EIO: the terminal has hung up
        if not data:
            self.closed = True
        return self._stdin_decoder.decode(data)


@contextmanager
def unless_gone() -> Iterator[None]:
    """Ignore that a terminal has hung up while it is written to: its input ends too, which is handled."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


class TerminalInput(Vt100Input):
    """Reads keys from a terminal, and makes one key of each burst of text."""

    def __init__(self, stdin: TextIO) -> None:
        super().__init__(stdin)
        self.stdin_reader: _Reader = _Reader(stdin.fileno(), encoding=stdin.encoding)
        self._bursts = Bursts()

    def read_keys(self) -> list[KeyPress]:
        return self._bursts.take(super().read_keys())

    def flush_keys(self) -> list[KeyPress]:
        if self.stdin_reader.ready():
            return []  # the loop was late, not the terminal: input is waiting, and its read flushes again
        return [*self._bursts.release(), *super().flush_keys()]


class TerminalOutput(Vt100_Output):
    """Output to a terminal that can be redrawn.

    The terminal is never asked for its cursor position: the reply would arrive in the middle of a paste.
    Bracketed paste stays on between redraws, so that every paste is marked; ``leave`` switches it off.
    """

    @property
    def responds_to_cpr(self) -> bool:
        return False

    def disable_bracketed_paste(self) -> None:
        pass

    def flush(self) -> None:
        with unless_gone():
            super().flush()

    def leave(self) -> None:
        """Restore the terminal for other programs."""
        super().disable_bracketed_paste()
        self.show_cursor()
        self.flush()


class PlainOutput(DummyOutput):
    """Discards what is drawn. Only the terminal's bracketed paste is switched on and off, so that pastes are
    marked."""

    def __init__(self, stdout: TextIO) -> None:
        self._stdout = stdout

    def enable_bracketed_paste(self) -> None:
        self._send("\x1b[?2004h")

    def disable_bracketed_paste(self) -> None:
        self._send("\x1b[?2004l")

    def _send(self, sequence: str) -> None:
        with unless_gone():
            self._stdout.write(sequence)
            self._stdout.flush()


def open_output(stdout: TextIO, term: str | None, *, plain: bool = False) -> Output:
    """Return the output to draw on; for a dumb terminal or ``plain`` one that discards what is drawn."""
    if is_dumb(term):
        return DummyOutput()
    if plain:
        return PlainOutput(stdout)
    # prompt_toolkit obeys NO_COLOR only since 3.0.40
    depth = ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else ColorDepth.from_env()
    return TerminalOutput.from_pty(stdout, term=term, default_color_depth=depth, enable_bell=False)


def open_input(stdin: TextIO | None = None) -> TerminalInput:
    """Return the input of a terminal, by default stdin's."""
    return TerminalInput(stdin or sys.stdin)

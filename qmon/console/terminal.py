"""The terminal's two ends: input that knows a burst of text from typing, output without surprises."""

from __future__ import annotations

import errno
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

from prompt_toolkit.input.posix_utils import PosixStdinReader
from prompt_toolkit.input.vt100 import Vt100Input
from prompt_toolkit.key_binding import KeyPress
from prompt_toolkit.keys import Keys
from prompt_toolkit.output import ColorDepth, DummyOutput, Output
from prompt_toolkit.output.vt100 import Vt100_Output

BURST_GAP = 0.1
"""Seconds without input after which a burst is over, and a lone ESC is the Escape key.

A terminal on a busy machine sends a long paste in pieces some tens of milliseconds apart.
"""

_READ_BYTES = 16384

_ENTER = (Keys.ControlM, Keys.ControlJ)


def is_dumb(term: str | None) -> bool:
    """Whether a terminal of this type can't move its cursor."""
    return term in (None, "", "dumb", "unknown")


def plain_text(keys: list[KeyPress]) -> str | None:
    """The text that these keys write, Enter as LF and TAB as itself; None when one does something else."""
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


class Bursts:
    """Finds a paste that a terminal sent like typing: an Enter with more text behind it in one read.

    Its keys are held until the terminal pauses, and become one bracketed paste, so that a paste is seen as
    a whole whichever way it came.
    """

    def __init__(self) -> None:
        self._held = ""

    def take(self, keys: list[KeyPress]) -> list[KeyPress]:
        """Take what one read gave; return the keys to act on now."""
        text = plain_text(keys)
        if text is None:
            return [*self.release(), *keys]
        if self._held or "\n" in text[:-1]:
            self._held += text
            return []
        return keys

    def release(self) -> list[KeyPress]:
        """End the burst; return it as a paste."""
        text, self._held = self._held, ""
        return [KeyPress(Keys.BracketedPaste, text)] if text else []


class _Reader(PosixStdinReader):
    """A reader for which a terminal that has gone is at its end, where the original would spin."""

    def ready(self) -> bool:
        """Whether a read would not wait."""
        return bool(select.select([self.stdin_fd], [], [], 0)[0])

    def read(self, count: int = _READ_BYTES) -> str:
        if self.closed or not self.ready():
            return ""
        try:
            data = os.read(self.stdin_fd, count)
        except OSError:
            data = b""  # EIO: hung up, which is the end as well
        if not data:
            self.closed = True
        return self._stdin_decoder.decode(data)


@contextmanager
def unless_gone() -> Iterator[None]:
    """Let a write to a terminal that has hung up pass: nobody is there to see it, and its input ends too."""
    try:
        yield
    except OSError as error:
        if error.errno != errno.EIO:
            raise


class TerminalInput(Vt100Input):
    """The keys of a terminal, with bursts of text as pastes."""

    def __init__(self, stdin: TextIO) -> None:
        super().__init__(stdin)
        self.stdin_reader: _Reader = _Reader(stdin.fileno(), encoding=stdin.encoding)
        self._bursts = Bursts()

    def read_keys(self) -> list[KeyPress]:
        return self._bursts.take(super().read_keys())

    def flush_keys(self) -> list[KeyPress]:
        if self.stdin_reader.ready():
            return []  # it was the loop that paused, not the terminal: the read to come flushes again
        return [*self._bursts.release(), *super().flush_keys()]


class TerminalOutput(Vt100_Output):
    """A terminal that is drawn on.

    It is never asked where its cursor is: the answer would come in the middle of what is pasted. Bracketed
    paste stays on while output goes by, so that no paste slips through unmarked; ``leave`` ends it.
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
        """Give the terminal back as it was."""
        super().disable_bracketed_paste()
        self.show_cursor()
        self.flush()


def open_output(stdout: TextIO, term: str | None) -> Output:
    """The output to draw on; on a dumb terminal nothing can be drawn, and a dummy takes it."""
    if is_dumb(term):
        return DummyOutput()
    # prompt_toolkit knows NO_COLOR only since 3.0.40
    depth = ColorDepth.DEPTH_1_BIT if os.environ.get("NO_COLOR") else ColorDepth.from_env()
    return TerminalOutput.from_pty(stdout, term=term, default_color_depth=depth, enable_bell=False)


def open_input(stdin: TextIO | None = None) -> TerminalInput:
    """The input of the terminal that is stdin."""
    return TerminalInput(stdin or sys.stdin)

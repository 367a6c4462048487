"""Writes output to the terminal above the prompt: on a terminal that can be redrawn, and on a plain one."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol, TextIO

from prompt_toolkit.application import Application
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.lexers import Lexer
from prompt_toolkit.renderer import print_formatted_text
from prompt_toolkit.styles import BaseStyle
from prompt_toolkit.utils import get_cwidth

from qmon.console.progress import Bar, plain_text
from qmon.console.terminal import unless_gone
from qmon.console.view import Status
from qmon.notation.plain_text import plain, visible

_BUSY_REDRAW_SECONDS = 0.05
"""The shortest time between redraws while commands run. More redraws would slow down their output."""

KEPT_MOST = 10_000
"""Messages that are kept back at most: the shell may have the terminal for weeks."""

_PLAIN_PROGRESS_SECONDS = 5.0


class Screen(Protocol):
    """Where a console's text goes. Called on the loop only."""

    def write(self, text: str) -> None:
        """Show whole lines."""

    def echo(self, line: str) -> None:
        """Show a prompt and a line after it, as if the line had been typed there and run by Enter."""

    def refresh(self) -> None:
        """Show the current status, bars and line being typed."""

    def hold(self) -> None:
        """Keep output back: another program has the terminal."""

    def resume(self) -> None:
        """Write the output that was kept back."""

    def close(self) -> None:
        """Leave the terminal with the cursor at the start of a line."""


class _Hold:
    """Keeps the newest output back while another program has the terminal."""

    def __init__(self) -> None:
        self._kept: deque[Callable[[], None]] | None = None
        self._dropped = 0

    @property
    def is_on(self) -> bool:
        return self._kept is not None

    def begin(self) -> None:
        self._kept = deque(maxlen=KEPT_MOST)

    def keeps(self, show: Callable[[], None]) -> bool:
        """If a hold is on, keep ``show`` to be called at its end and return True; else return False."""
        if self._kept is None:
            return False
        self._dropped += len(self._kept) == KEPT_MOST
        self._kept.append(show)
        return True

    def end(self, write: Callable[[str], None]) -> None:
        """Call what was kept; before it ``write`` how much was not."""
        kept, self._kept = self._kept or (), None
        dropped, self._dropped = self._dropped, 0
        if dropped:
            write(f"{dropped} older messages are not shown\n")
        for show in kept:
            show()


class DrawnScreen:
    """A terminal whose cursor can be moved: output goes above what the application draws.

    Each write erases the drawn part, prints the text, and has the part redrawn later. So output stays in
    order and 2,000 lines a second pass. prompt_toolkit's run_in_terminal is not used: it switches to cooked
    mode for each write, and the terminal would echo text that is pasted at that moment.
    """

    def __init__(
        self, application: Application[None], status: Status, lexer: Lexer, style: BaseStyle
    ) -> None:
        self._application = application
        self._style = style
        self._status = status
        self._lexer = lexer
        self._drawn = False
        self._timer: asyncio.TimerHandle | None = None
        self._hold = _Hold()
        application.after_render += self._note_drawn

    def write(self, text: str) -> None:
        if self._hold.keeps(lambda: self.write(text)):
            return
        self._erase()
        self._application.output.write(plain(text))
        self._application.output.flush()
        self.refresh()

    def echo(self, line: str) -> None:
        if self._hold.keeps(lambda: self.echo(line)):
            return
        self._erase()
        text: StyleAndTextTuples = [
            ("class:prompt", self._status.prompt),
            *self._lexer.lex_document(Document(visible(line)))(0),
            ("", "\n"),
        ]
        output = self._application.output
        print_formatted_text(output, text, self._style, color_depth=self._application.color_depth)
        output.flush()
        self.refresh()

    def refresh(self) -> None:
        if not self._status.busy:
            self._application.invalidate()
        elif self._timer is None:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(_BUSY_REDRAW_SECONDS, self._draw_busy)

    def hold(self) -> None:
        self._erase()
        self._hold.begin()

    def resume(self) -> None:
        self._hold.end(self.write)
        self.refresh()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _draw_busy(self) -> None:
        self._timer = None
        self._application.invalidate()

    def _note_drawn(self, _: object) -> None:
        self._drawn = True

    def _erase(self) -> None:
        if self._drawn:
            self._application.renderer.erase()
            self._drawn = False


class PlainScreen:
    """A terminal that only takes text (``-plain``, ``TERM=dumb``), which a screen reader or a log gets once.

    The line being typed is echoed as it grows and shrinks.
    """

    def __init__(
        self, stdout: TextIO, status: Status, buffer: Buffer, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stdout = stdout
        self._status = status
        self._buffer = buffer
        self._clock = clock
        self._shown: str | None = None
        """The text after the prompt or question on the screen's last line; None when that line is empty."""
        self._asked = ""
        self._bar: Bar | None = None
        self._bar_due = 0.0
        self._bar_shown = (0, 0)
        self._hold = _Hold()
        buffer.on_text_changed += lambda _: self.refresh()

    def write(self, text: str) -> None:
        if self._hold.keeps(lambda: self.write(text)):
            return
        if self._asked and text.startswith(self._asked):
            text = text.removeprefix(self._asked)  # the question is already on the screen
            self._shown = None
        self._end_line()
        self._put(plain(text))
        self.refresh()

    def echo(self, line: str) -> None:
        if self._hold.keeps(lambda: self.echo(line)):
            return
        if self._shown is None or not line.startswith(self._shown):
            self._prompt("")
        self._put(visible(line.removeprefix(self._shown or "")) + "\n")
        self._shown = None

    def refresh(self) -> None:
        if self._hold.is_on:
            return
        status = self._status
        if status.question:
            if status.question != self._asked:
                self._end_line()
                self._put(plain(status.question))
                self._shown = ""
        elif status.bars:
            self._show_bar(status.bars[-1])
        elif not status.busy:
            self._show_line(self._buffer.text)
        self._asked = status.question

    def hold(self) -> None:
        self._end_line()
        self._hold.begin()

    def resume(self) -> None:
        self._hold.end(self.write)
        self.refresh()

    def close(self) -> None:
        self._end_line()

    def _show_line(self, text: str) -> None:
        shown = self._shown
        if shown is not None and text.startswith(shown):
            self._put(visible(text[len(shown) :]))
            self._shown = text
        elif shown is not None and shown.startswith(text):
            self._put("\b \b" * (get_cwidth(shown) - get_cwidth(text)))
            self._shown = text
        else:
            self._prompt(text)

    def _show_bar(self, bar: Bar) -> None:
        now, progress = self._clock(), (bar.done, bar.total)
        is_news = now >= self._bar_due and progress != self._bar_shown
        if bar.known and (bar is not self._bar or is_news):
            self._bar, self._bar_due, self._bar_shown = bar, now + _PLAIN_PROGRESS_SECONDS, progress
            self._end_line()
            self._put(plain(plain_text(bar.title, bar.done, bar.total, bar.note)) + "\n")

    def _prompt(self, text: str) -> None:
        self._end_line()
        self._put(self._status.prompt + visible(text))
        self._shown = text

    def _end_line(self) -> None:
        if self._shown is not None:
            self._put("\n")
            self._shown = None

    def _put(self, text: str) -> None:
        with unless_gone():
            self._stdout.write(text)
            self._stdout.flush()

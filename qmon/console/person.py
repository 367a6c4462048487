"""The person at the terminal: reads answers, is asked questions, and sees bars and pictures."""

from __future__ import annotations

import asyncio
import os

from prompt_toolkit.enums import EditingMode

from qmon.console.answers import Answer
from qmon.console.display import Display
from qmon.console.painter import Painter
from qmon.console.picture import wrapped
from qmon.console.progress import Bar
from qmon.console.terminal import shows_utf8
from qmon.notation.plain_text import plain


class TerminalPerson:
    """A Person (``qmon.hmp.person``) at the console's terminal."""

    interactive = True
    comments = True

    def __init__(self, display: Display, *, tells_events: bool, assume_yes: bool) -> None:
        """``assume_yes``: answer every question with yes."""
        self.history: list[str] = []
        self.tells_events = tells_events
        self.silent = False
        """Whether commands' output is hidden: the machine has ended, so the output would be wrong."""
        self.has_seen_bar = False
        """Whether the running command has shown a bar."""
        self._display = display
        self._status = display.status
        self._refresh = display.screen.refresh
        self._assume_yes = assume_yes
        self._hints: list[str] = []
        self._said: asyncio.Future[bool] | None = None
        self._shown = Answer(display.notify, whole=False)
        self._picture: Painter | None = None

    @property
    def keys(self) -> str:
        return self._display.application.editing_mode.value.lower()

    @keys.setter
    def keys(self, mode: str) -> None:
        self._display.application.editing_mode = EditingMode(mode.upper())

    def hint(self, text: str) -> None:
        self._hints.append(text)

    def take_hints(self) -> list[str]:
        """Return the hints of the line that has just run, and forget them."""
        hints, self._hints = self._hints, []
        return hints

    def begin_answer(self, *, whole: bool) -> Answer:
        """Begin to show a command's answer; ``whole``: whether to hold it back, for the pager."""
        self._shown = Answer(self._display.notify, whole=whole)
        return self._shown

    def print(self, text: str) -> None:
        if self.silent:
            return
        picture = self._picture
        to = self._shown if picture is None or picture.is_over else picture
        to.add(plain(text))

    def tell(self, text: str) -> None:
        """Show an error or a hint; its words stay whole."""
        self.print(wrapped(text, self.columns))

    async def ask(self, question: str) -> bool:
        """Ask for ``y`` or ``n``; return True for ``y``. Ctrl-C stops the command that asks."""
        question = wrapped(plain(f"{question} (y/n)"), self.columns - len(" y"))
        self._shown.release()
        if self._assume_yes:
            self._display.notify(f"{question} y")
            return True
        self._said = asyncio.get_running_loop().create_future()
        self._status.question = f"{question} "
        self._refresh()
        try:
            yes = await self._said
            self._display.notify(f"{self._status.question}{'y' if yes else 'n'}")
        finally:
            self._status.question, self._said = "", None
            self._refresh()
        return yes

    @property
    def is_asked(self) -> bool:
        """Whether a question waits for ``say``."""
        return self._said is not None and not self._said.done()

    def say(self, yes: bool) -> None:
        """Answer the question on the screen."""
        if self._said is not None and not self._said.done():
            self._said.set_result(yes)

    def ask_again(self) -> None:
        """Say which keys answer the question on the screen."""
        self._status.question = self._status.question.replace("(y/n) ", "(type y or n) ")
        self._refresh()

    def progress(self, title: str) -> Bar:
        """Show a progress bar until it is closed or the running command ends."""
        self._shown.release()
        bar = Bar(title, self._refresh, self._close_bar)
        self._status.bars.append(bar)
        self.has_seen_bar = True
        self._refresh()
        return bar

    def _close_bar(self, bar: Bar) -> None:
        if bar in self._status.bars:
            self._status.bars.remove(bar)
            self._refresh()

    @property
    def draws(self) -> bool:
        return shows_utf8(os.environ)

    @property
    def columns(self) -> int:
        return self._display.columns

    def picture(self) -> Painter | None:
        """Begin a picture. None if the terminal can't be redrawn, or if there is one already."""
        if not self._display.is_redrawn or (self._picture and not self._picture.is_over):
            return None
        self._shown.release()
        self._picture = Painter(self._status, self._display.screen, self._display.application.output)
        return self._picture

    def end_output(self) -> None:
        """Show what the running command has printed; more of it is no part of a picture."""
        self._shown.release()
        if self._picture is not None:
            self._picture.close()

    def end_command(self) -> None:
        """Remove the bars of the command that has ended."""
        self._status.bars.clear()
        self.has_seen_bar = False

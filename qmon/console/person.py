"""The person at the terminal."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from qmon.hmp.person import Picture, Progress


class Desk(Protocol):
    """The console's services that a TerminalPerson uses."""

    @property
    def lines(self) -> list[str]:
        """The lines that were run, oldest first."""

    tells_events: bool
    """Whether notices of events are shown."""
    keys: str
    """The editing mode: ``emacs`` or ``vi``."""

    def answer_text(self, text: str) -> None:
        """Show text that a command prints."""

    async def ask(self, question: str) -> bool:
        """Ask a question and wait for ``y`` or ``n``; return True for ``y``."""

    def progress(self, title: str) -> Progress:
        """Show a progress bar."""

    @property
    def columns(self) -> int:
        """The width of the terminal."""

    def picture(self) -> AbstractContextManager[Picture] | None:
        """Begin a picture, or return None."""


class TerminalPerson:
    """A Person (``qmon.hmp.person``) at the console's terminal."""

    interactive = True
    comments = True

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.silent = False
        """Whether commands' output is hidden: the machine has ended, so the output would be wrong."""
        self._hints: list[str] = []

    @property
    def history(self) -> list[str]:
        return self._desk.lines

    @property
    def tells_events(self) -> bool:
        return self._desk.tells_events

    @tells_events.setter
    def tells_events(self, on: bool) -> None:
        self._desk.tells_events = on

    @property
    def keys(self) -> str:
        return self._desk.keys

    @keys.setter
    def keys(self, mode: str) -> None:
        self._desk.keys = mode

    def hint(self, text: str) -> None:
        self._hints.append(text)

    def take_hints(self) -> list[str]:
        """Return the hints of the line that has just run, and forget them."""
        hints, self._hints = self._hints, []
        return hints

    def print(self, text: str) -> None:
        if not self.silent:
            self._desk.answer_text(text)

    async def ask(self, question: str) -> bool:
        return await self._desk.ask(question)

    def progress(self, title: str) -> Progress:
        return self._desk.progress(title)

    @property
    def columns(self) -> int:
        return self._desk.columns

    def picture(self) -> AbstractContextManager[Picture] | None:
        return self._desk.picture()

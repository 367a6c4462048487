"""The person at the terminal."""

from __future__ import annotations

from typing import Protocol

from qmon.hmp.person import Progress


class Desk(Protocol):
    """What the console does for its person."""

    @property
    def lines(self) -> list[str]:
        """The lines that were run, oldest first."""

    tells_events: bool
    """Whether events are shown."""
    keys: str
    """Whose keys edit the line: ``emacs`` or ``vi``."""

    def answer_text(self, text: str) -> None:
        """Show what a command answers."""

    async def ask(self, question: str) -> bool:
        """Ask and wait for ``y`` or ``n``."""

    def progress(self, title: str) -> Progress:
        """Show a bar."""


class TerminalPerson:
    """A Person at a terminal (``qmon.hmp.person``) whose words come and go through the console."""

    interactive = True
    comments = True

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.silent = False
        """Whether nothing more is shown: the machine has gone, and what a command says of it isn't so."""

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

    def print(self, text: str) -> None:
        if not self.silent:
            self._desk.answer_text(text)

    async def ask(self, question: str) -> bool:
        return await self._desk.ask(question)

    def progress(self, title: str) -> Progress:
        return self._desk.progress(title)

"""The person at the terminal."""

from __future__ import annotations

from typing import Protocol

from qmon.hmp.person import Progress


class Desk(Protocol):
    """What the console does for its person."""

    @property
    def lines(self) -> list[str]:
        """The lines that were run, oldest first."""

    def notify(self, text: str) -> None:
        """Show text above what is being typed."""

    async def ask(self, question: str) -> bool:
        """Ask and wait for ``y`` or ``n``."""

    def progress(self, title: str) -> Progress:
        """Show a bar."""


class TerminalPerson:
    """A Person (``qmon.hmp.person``) whose words come and go through the console."""

    interactive = True
    comments = True

    def __init__(self, desk: Desk) -> None:
        self._desk = desk
        self.silent = False
        """Whether nothing more is shown: the machine has gone, and what a command says of it isn't so."""

    @property
    def history(self) -> list[str]:
        return self._desk.lines

    def print(self, text: str) -> None:
        if not self.silent:
            self._desk.notify(text)

    async def ask(self, question: str) -> bool:
        return await self._desk.ask(question)

    def progress(self, title: str) -> Progress:
        return self._desk.progress(title)

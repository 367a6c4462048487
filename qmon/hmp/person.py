"""What a handler needs from the person in front of it."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from qmon.errors import QmonError


class LineError(QmonError):
    """A monitor line failed; ``str()`` is what is printed, one line or more, as it stands.

    A CommandError is printed with ``Error: `` before it; this is for texts that QEMU prints bare.
    """


class InnerLineError(LineError):
    """A line failed because one did that it runs; ``str()`` is what that one said."""


class Progress(Protocol):
    """A long command's progress, shown however the person can see it."""

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show that ``done`` of ``total`` bytes are done; ``note`` is a few words more (rate, time left)."""

    def close(self) -> None:
        """Take the progress away."""


class Person(Protocol):
    """The console, a script and a socket monitor each implement this."""

    @property
    def interactive(self) -> bool:
        """Whether somebody sits at a terminal and can answer."""

    @property
    def comments(self) -> bool:
        """Whether ``#`` starts a comment here: on terminals and in scripts, not on sockets."""

    @property
    def history(self) -> list[str]:
        """The lines this monitor was given, oldest first, this one included."""

    def print(self, text: str) -> None:
        """Print text; a newline is added."""

    async def ask(self, question: str) -> bool:
        """Ask a yes-or-no question; where nobody can answer, the answer is yes."""

    def progress(self, title: str) -> Progress:
        """Start to show the progress of something long."""


@runtime_checkable
class AtTerminal(Protocol):
    """A Person at a terminal, about which a few things can be chosen."""

    tells_events: bool
    """Whether events appear above the line being typed."""
    keys: str
    """Whose keys edit the line: ``emacs`` or ``vi``."""

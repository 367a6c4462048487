"""The interface to the person who gives lines."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from qmon.errors import QmonError

COLUMNS = 80
"""The width where it is not known: scripts and sockets."""


class LineError(QmonError):
    """A monitor line failed; ``str()`` is printed unchanged, and may have several lines.

    A CommandError is printed with the prefix ``Error: ``; this is for messages without it.
    """


class InnerLineError(LineError):
    """A line failed because a line that it runs has failed; ``str()`` is the inner line's error."""


class Progress(Protocol):
    """Shows the progress of a long command."""

    def update(self, done: int, total: int, note: str | None = None) -> None:
        """Show that ``done`` of ``total`` bytes are done.

        ``note`` is a short text about the pace, its clauses separated by commas. For None the display
        measures the rate and the time left itself, if it shows them.
        """

    def close(self) -> None:
        """Remove the display."""


class Person(Protocol):
    """The person who gives lines. The console, scripts and socket monitors implement it."""

    @property
    def interactive(self) -> bool:
        """Whether the person is at a terminal and can answer questions."""

    @property
    def comments(self) -> bool:
        """Whether ``#`` starts a comment: on terminals and in scripts, but not on sockets."""

    @property
    def history(self) -> list[str]:
        """Return the lines that the person has given, oldest first, including the current one."""

    def print(self, text: str) -> None:
        """Print text; a newline is added."""

    async def ask(self, question: str) -> bool:
        """Ask a yes-or-no question. Without a terminal the answer is yes."""

    def progress(self, title: str) -> Progress:
        """Start to show the progress of a long command."""


class Picture(Protocol):
    """An answer that is painted over the one before it. What the person is told meanwhile is part of it."""

    def paint(self) -> None:
        """Show what was printed since the last call, in place of what was shown."""


@runtime_checkable
class TakesHints(Protocol):
    """A Person whose screen or log has room for more than QEMU's error: a terminal, a script's stderr."""

    def hint(self, text: str) -> None:
        """Keep a line that says how to write it right, to be shown below the error of the running line."""


@runtime_checkable
class TakesWarnings(Protocol):
    """A Person with a place for warnings that is not the answer: a script's stderr."""

    def warn(self, text: str) -> None:
        """Show a warning about the running line, which goes on."""


@runtime_checkable
class Detaches(Protocol):
    """A Person who gets the whole answer of a line at its end, and so does not wait for a migration."""

    detaches: bool


@runtime_checkable
class AtTerminal(Protocol):
    """A Person at a terminal, which has a few settings."""

    tells_events: bool
    """Whether events are shown above the line that is being typed."""
    keys: str
    """The key bindings of the line editor: ``emacs`` or ``vi``."""

    @property
    def columns(self) -> int:
        """The width of the terminal."""

    @property
    def draws(self) -> bool:
        """Whether the terminal shows characters beyond ASCII."""

    def picture(self) -> AbstractContextManager[Picture] | None:
        """Begin a picture; at its end the last one stays. None if the terminal can't be redrawn."""


def columns_of(person: Person) -> int:
    """Return how wide a line for this person may be."""
    return person.columns if isinstance(person, AtTerminal) else COLUMNS


def draws(person: Person) -> bool:
    """Return whether what this person reads may have characters beyond ASCII."""
    return isinstance(person, AtTerminal) and person.draws

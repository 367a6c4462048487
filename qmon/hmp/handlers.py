"""What a command's function gets, and how the table's ``.cmd`` finds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from qmon.errors import CommandError
from qmon.hmp.origin import Origin
from qmon.hmp.person import LineError, Person
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Command, Tables
from qmon.notation.plain_text import in_one_line, one_line
from qmon.qmp.target import Arguments

if TYPE_CHECKING:
    from qmon.hmp.monitor import Monitor


MULTI_LINE = "human-readable-text"
"""The member of a result that is a text of several lines (qapi/common.json)."""


@dataclass(frozen=True, slots=True)
class Call:
    """One line that was read: the command, its arguments by key, and who gave it."""

    monitor: Monitor
    person: Person
    command: Command
    typed: str
    """The command as it was typed, sub-command included: ``info block``."""
    values: Values
    line: str = ""
    """The whole line, for a target whose own monitor is to run it."""
    origin: Origin | None = None
    """Where the line stands in a script; None for one that was typed."""
    hides_answer: bool = False
    """Whether the answer is a secret, and is not written down."""

    def has(self, qmp_command: str) -> bool:
        """Whether the target has a QMP command."""
        return qmp_command in self.monitor.target.commands()

    async def execute(self, qmp_command: str, arguments: Arguments | None = None) -> Any:
        """Run a QMP command on the target; each text of its result, or its error, is one line.

        Raises CommandError when it failed, LineError when the target has no such command.
        """
        result = await self.execute_raw(qmp_command, arguments)
        if isinstance(result, str) or (isinstance(result, dict) and MULTI_LINE in result):
            return result
        return in_one_line(result)

    async def execute_raw(self, qmp_command: str, arguments: Arguments | None = None) -> Any:
        """The same, with the result as it is."""
        if not self.has(qmp_command):
            raise LineError(f"{self.typed}: this target has no QMP command '{qmp_command}'")
        try:
            return await self.monitor.line_target.execute(qmp_command, arguments)
        except CommandError as error:
            text = one_line(str(error))
            if text == str(error):
                raise
            raise CommandError(text, error.error_class) from error

    async def execute_bare(self, qmp_command: str, arguments: Arguments | None = None) -> Any:
        """Run a QMP command whose errors QEMU prints without ``Error: `` before them. Raises LineError."""
        try:
            return await self.execute(qmp_command, arguments)
        except CommandError as error:
            raise LineError(str(error)) from error

    async def pass_on(self, absent: str, *, fails: bool = True) -> None:
        """Have the target's own monitor run the line: a command for which QMP has no words.

        A target without a monitor of its own, the embedded machine for one, has nothing that the line could
        concern: then it fails with ``absent``, which says so (in QEMU's words, where it has some). With
        ``fails`` False ``absent`` is an answer as good as any; an empty one prints nothing.
        """
        if not self.has("human-monitor-command"):
            if fails:
                raise LineError(absent)
            if absent:
                self.print(absent)
            return
        answer = await self.execute("human-monitor-command", {"command-line": self.line})
        if answer:
            self.print(answer.replace("\r\n", "\n").removesuffix("\n"))

    def text(self, key: str, default: str = "") -> str:
        """An argument that is text."""
        return str(self.values.get(key, default))

    def flag(self, key: str) -> bool:
        """Whether a flag was given."""
        return bool(self.values.get(key, False))

    def print(self, text: str) -> None:
        self.person.print(text)
        if self.monitor.transcript is not None:
            self.monitor.transcript.answer(MASK if self.hides_answer else text)


Handler = Callable[[Call], Awaitable[None]]

MASK = "***"
"""Stands for a secret wherever a line is written down."""
ANSWER = ""
"""The key by which a Conceal says that the command's answer is a secret."""

Conceal = Callable[[Tables, Values], Mapping[str, str]]
"""From a line's arguments to what is written down in place of those that are secrets, by their keys."""

_handlers: dict[str, Handler] = {}
_conceals: dict[str, Conceal] = {}
_inner: dict[str, str] = {}


def handler(
    c_name: str, *, conceal: Conceal | None = None, inner: str | None = None
) -> Callable[[Handler], Handler]:
    """Mark the function that does what a table names by ``.cmd = c_name``.

    ``inner`` is the key of an argument that is a line of its own, up to the end of the line.
    """

    def mark(function: Handler) -> Handler:
        if c_name in _handlers:
            raise ValueError(f"the function '{c_name}' is there already")
        _handlers[c_name] = function
        if conceal is not None:
            _conceals[c_name] = conceal
        if inner is not None:
            _inner[c_name] = inner
        return function

    return mark


def load_handlers() -> None:
    """Import all commands; from any thread."""
    from qmon.hmp import commands

    commands.load()


def find_handler(c_name: str) -> Handler | None:
    """The function for a ``.cmd``; None when nobody wrote one."""
    load_handlers()
    return _handlers.get(c_name)


def find_conceal(c_name: str) -> Conceal | None:
    """What tells the secrets of a ``.cmd``; None where it has none."""
    load_handlers()
    return _conceals.get(c_name)


def find_inner(c_name: str) -> str | None:
    """The key of a ``.cmd``'s argument that is a line of its own; None where it has none."""
    load_handlers()
    return _inner.get(c_name)

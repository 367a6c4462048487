"""What a command's function gets, and how the table's ``.cmd`` finds it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from qmon.errors import CommandError
from qmon.hmp.jobs import EndedJobs
from qmon.hmp.line.reading import Reading
from qmon.hmp.line.secrets import MASK
from qmon.hmp.origin import Origin
from qmon.hmp.person import LineError, Person
from qmon.hmp.record import Transcript
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables
from qmon.notation.plain_text import in_one_line, one_line
from qmon.qmp.target import Arguments, Target

MULTI_LINE = "human-readable-text"
"""The member of a result that is a text of several lines (qapi/common.json)."""


class LineRunner(Protocol):
    """What a command has of the monitor that runs it (``qmon.hmp.monitor``)."""

    target: Target
    line_target: Target
    """Where the QMP commands go that a line becomes: to ``target``, maybe by way of who tells of them."""
    quitting: bool
    """Whether a ``quit`` succeeded: who reads lines stops."""
    transcript: Transcript | None
    """Where what is given and answered is written down."""
    open_output: Callable[[str], int]
    """Opens a file that a command appends to; may block. Raises OSError or ValueError."""
    jobs: EndedJobs

    @property
    def tables(self) -> Tables:
        """The command tables. Raises HxError."""

    def read(self, line: str, *, comments: bool = True) -> Reading:
        """Read a line. Raises HxError."""

    async def run(self, reading: Reading, person: Person, origin: Origin | None = None) -> str | None:
        """Run a line; return what a failing one says, maybe "", and None for another."""


@dataclass(frozen=True, slots=True)
class Call:
    """A line that is run: its arguments by key, and who gave it."""

    monitor: LineRunner
    person: Person
    reading: Reading
    values: Values
    origin: Origin | None = None
    """Where the line stands in a script; None for one that was typed."""
    hides_answer: bool = False
    """Whether the answer is a secret, and is not written down."""

    @property
    def typed(self) -> str:
        """The command as it was typed, sub-command included: ``info block``."""
        return self.reading.typed

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
        answer = await self.execute("human-monitor-command", {"command-line": self.reading.line.strip()})
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

HANDLERS: dict[str, Handler] = {}
"""By the table's ``.cmd``; ``qmon.hmp.commands`` has them all."""


def handler(c_name: str) -> Callable[[Handler], Handler]:
    """Mark the function that does what a table names by ``.cmd = c_name``.

    If an argument or the answer may be a secret, ``qmon.hmp.line.secrets`` needs a row for it.
    """

    def mark(function: Handler) -> Handler:
        if c_name in HANDLERS:
            raise ValueError(f"the function '{c_name}' is there already")
        HANDLERS[c_name] = function
        return function

    return mark

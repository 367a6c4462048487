"""The interface of a command's function, and the registry that finds it by the table's ``.cmd``."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol

from qmon.errors import CommandError
from qmon.hmp.jobs import EndedJobs
from qmon.hmp.line.reading import Reading
from qmon.hmp.line.secrets import MASK
from qmon.hmp.origin import Origin
from qmon.hmp.person import LineError, Person, TakesHints, TakesWarnings
from qmon.hmp.record import Transcript
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables
from qmon.notation.plain_text import in_one_line, one_line
from qmon.qmp.target import Arguments, Target

MULTI_LINE = "human-readable-text"
"""The member of a result whose text may have several lines (qapi/common.json)."""


def lacks(qmp_command: str) -> str:
    """Say that the target does not have a QMP command."""
    return f"this target has no QMP command '{qmp_command}'"


class LineRunner(Protocol):
    """What a command may use of its monitor (``qmon.hmp.monitor``)."""

    target: Target
    line_target: Target
    """Runs the QMP commands of a line: ``target``, or a TracedTarget in front of it."""
    quitting: bool
    """Whether a ``quit`` has succeeded; then no more lines are read."""
    transcript: Transcript | None
    """Records lines and answers; None: nothing is recorded."""
    open_output: Callable[[str], int]
    """Opens a file for appending and returns its descriptor. May block. Raises OSError or ValueError."""
    jobs: EndedJobs
    connected_to: str
    """What ``-connect`` leads to, for questions and notices; "" for a machine of this program."""
    leave: Callable[[], None] | None
    """Leaves what ``-connect`` leads to; None for a machine of this program."""
    passes: bool
    """Whether the target's own monitor runs the lines that it knows."""
    cpu: int | None
    """The CPU for the target's own monitor, which forgets it; None: its first one."""

    @property
    def tables(self) -> Tables:
        """Return the command tables. Raises HxError."""

    def read(self, line: str, *, comments: bool = True) -> Reading:
        """Read a line. Raises HxError."""

    async def run(self, reading: Reading, person: Person, origin: Origin | None = None) -> str | None:
        """Run a line; return its error, which may be "", or None if it has succeeded."""


@dataclass(frozen=True, slots=True)
class Call:
    """A line that runs: its arguments by key, and the person who gave it."""

    monitor: LineRunner
    person: Person
    reading: Reading
    values: Values
    origin: Origin | None = None
    """The line's place in a script; None if it was typed."""
    hides_answer: bool = False
    """Whether the answer is secret and must not be recorded."""

    @property
    def typed(self) -> str:
        """The command as typed, with its sub-command: ``info block``."""
        return self.reading.typed

    def has(self, qmp_command: str) -> bool:
        """Whether the target has a QMP command."""
        return qmp_command in self.monitor.target.commands()

    async def execute(self, qmp_command: str, arguments: Arguments | None = None) -> Any:
        """Run a QMP command on the target; texts in its result or error are made single lines.

        Raises CommandError if it fails, LineError if the target has no such command.
        """
        result = await self.execute_raw(qmp_command, arguments)
        if isinstance(result, str) or (isinstance(result, dict) and MULTI_LINE in result):
            return result
        return in_one_line(result)

    async def execute_raw(self, qmp_command: str, arguments: Arguments | None = None) -> Any:
        """As ``execute``, but texts in the result are not changed."""
        if not self.has(qmp_command):
            raise LineError(f"{self.typed}: {lacks(qmp_command)}")
        try:
            return await self.monitor.line_target.execute(qmp_command, arguments)
        except CommandError as error:
            text = one_line(str(error))
            if text == str(error):
                raise
            raise CommandError(text, error.error_class) from error

    async def execute_bare(self, qmp_command: str, arguments: Arguments | None = None) -> Any:
        """Run a QMP command whose errors QEMU prints without the prefix ``Error: ``. Raises LineError."""
        try:
            return await self.execute(qmp_command, arguments)
        except CommandError as error:
            raise LineError(str(error)) from error

    def text(self, key: str, default: str = "") -> str:
        """Return a text argument."""
        return str(self.values.get(key, default))

    def flag(self, key: str) -> bool:
        """Whether a flag was given."""
        return bool(self.values.get(key, False))

    def hint(self, text: str | None) -> None:
        """Show a line below this line's error, where there is room for it; None shows nothing."""
        if text and isinstance(self.person, TakesHints):
            self.person.hint(text)

    def warn(self, text: str) -> None:
        """Show a warning about this line, which goes on; it is no part of a script's answer."""
        if isinstance(self.person, TakesWarnings):
            self.person.warn(text)
        else:
            self.print(f"warning: {text}")

    def print(self, text: str) -> None:
        self.person.print(text)
        if self.monitor.transcript is not None:
            self.monitor.transcript.answer(MASK if self.hides_answer else text)


Handler = Callable[[Call], Awaitable[None]]
Explanation = Callable[[Call, bool], Awaitable[list[str]]]
"""What ``help`` says to a person below a command's usage; with True, also what has no effect here."""


@dataclass(frozen=True, slots=True)
class Function:
    """A command's function, and the QMP commands without which it can do nothing."""

    run: Handler
    needs: frozenset[str] = frozenset()
    is_void: bool = False
    """Whether it only says that the target lacks what the command is for."""
    is_substitute: bool = False
    """Whether it does the same by other means, for targets that lack the usual ones."""


HANDLERS: dict[str, list[Function]] = {}
"""The functions by the table's ``.cmd``; ``qmon.hmp.commands`` registers them."""


EVERYTHING = "-a"
"""The flag of ``help`` for what has no effect on the target, too."""

EXPLANATIONS: dict[str, Explanation] = {}
"""By the table's ``.cmd``, for the few commands whose help the target knows."""


def explains(c_name: str) -> Callable[[Explanation], Explanation]:
    """Register what explains the table entries with ``.cmd = c_name``."""

    def mark(function: Explanation) -> Explanation:
        EXPLANATIONS[c_name] = function
        return function

    return mark


ON_QEMU: dict[str, Handler] = {}
"""By the table's ``.cmd``: what does more for a line than to pass it to the target's own monitor."""


def on_qemu(c_name: str) -> Callable[[Handler], Handler]:
    """Register the function of the table entries with ``.cmd = c_name`` where lines are passed on."""

    def mark(function: Handler) -> Handler:
        ON_QEMU[c_name] = function
        return function

    return mark


def handler(
    c_name: str, *needs: str, is_void: bool = False, is_substitute: bool = False
) -> Callable[[Handler], Handler]:
    """Register a function of the table entries with ``.cmd = c_name``.

    ``needs`` are the QMP commands without which it can do nothing. There may be several functions with
    different needs: the first one runs of which the target has all commands. Void ones come first, and
    substitutes last.

    If an argument or the answer may be secret, ``qmon.hmp.line.secrets`` needs a row for it.
    """

    def mark(function: Handler) -> Handler:
        new = Function(function, frozenset(needs), is_void, is_substitute)
        functions = HANDLERS.setdefault(c_name, [])
        if any(each.needs == new.needs for each in functions):
            raise ValueError(f"the function '{c_name}' is already registered")
        functions.append(new)
        functions.sort(key=lambda each: (not each.is_void, each.is_substitute))
        return function

    return mark

"""A monitor: command tables and a target. Every line runs through it."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

from qmon.errors import CommandError, ConnectionLostError, QmonError, reason
from qmon.hmp import commands
from qmon.hmp.commands.refusals import refusal
from qmon.hmp.handlers import MULTI_LINE, Call
from qmon.hmp.jobs import EndedJobs
from qmon.hmp.line.arguments import NUL, FormatDefaults
from qmon.hmp.line.misplaced import qmp_hint, word_hint
from qmon.hmp.line.reading import Reading, read_line
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.origin import Origin
from qmon.hmp.passing import pass_on
from qmon.hmp.person import InnerLineError, LineError, Person, TakesHints
from qmon.hmp.qmp_trace import TracedTarget
from qmon.hmp.record import Transcript, open_appending
from qmon.hmp.tables.hx import HxError
from qmon.hmp.tables.learnt import learn
from qmon.hmp.tables.table import Tables, default_tables
from qmon.hmp.tables.usage import usage
from qmon.host.trace import HANDLE_HMP_COMMAND
from qmon.qmp.absent import REFUSALS
from qmon.qmp.target import Kind, Target, kind_of

_logger = logging.getLogger(__name__)


class Monitor:
    """Runs lines for any number of persons, and keeps what one line leaves for later ones.

    ``LineRunner`` in ``qmon.hmp.handlers`` describes its attributes.
    """

    def __init__(self, target: Target, tables: Tables | None = None) -> None:
        self.target = target
        self.line_target: Target = target
        self.formats = FormatDefaults()
        self.quitting = False
        self.transcript: Transcript | None = None
        self.open_output: Callable[[str], int] = open_appending
        self.jobs = EndedJobs(target)
        self.connected_to = ""
        self.leave: Callable[[], None] | None = None
        self.passes = False
        self.cpu: int | None = None
        self._given_tables = tables
        self._learnt_tables: Tables | None = None

    @property
    def tables(self) -> Tables:
        """Return the command tables, which are read when they are first needed. Raises HxError."""
        return self._learnt_tables or self._given_tables or default_tables()

    async def meet_target(self) -> None:
        """Learn which commands the target's own monitor has, if it has one. It runs their lines from now on.

        Call it again when the target may have become another one. Raises CommandError or HxError.
        """
        self.passes = kind_of(self.target) is Kind.QEMU
        self.cpu = None
        if self.passes:
            texts = [
                str(await self.target.execute("human-monitor-command", {"command-line": line}))
                for line in ("help", "info")
            ]
            known = self._given_tables or default_tables()
            self._learnt_tables = learn(texts[0], texts[1], known, self.target.commands())
        else:
            self._learnt_tables = None

    def prepare(self) -> None:
        """Load what the first line needs, so that it does not wait. Runs on its own thread."""
        with contextlib.suppress(HxError, OSError, MemoryError):  # the first line tries again and reports it
            commands.load()
            if self._given_tables is None:
                default_tables()

    def trace(self, tell: Callable[[str], None]) -> None:
        """From now on call ``tell`` with each QMP command of a line, and with its answer."""
        self.line_target = TracedTarget(self.target, self.tables, tell)

    def read(self, line: str, *, comments: bool = True) -> Reading:
        """Read a line with this monitor's tables. Raises HxError."""
        return read_line(self.tables, line, comments=comments)

    async def run_line(self, line: str, person: Person) -> bool:
        """Read a line, run it and print its answer or error through ``person``. Return False if it failed.

        No line makes this raise. A comment is removed if the person may write comments. Cancelling only
        stops waiting for the answer; the command may continue.
        """
        try:
            error = await self.run(self.read(line, comments=person.comments), person)
        except (QmonError, OSError, MemoryError) as unreadable:  # the tables can't be read
            error = f"Error: {reason(unreadable)}"
        if error:
            person.print(error)
        return error is None

    async def run(self, reading: Reading, person: Person, origin: Origin | None = None) -> str | None:
        """Run a line. If it fails, return its error, which may be "", instead of printing it; else None.

        ``origin`` is the line's place in a script, None if it was typed.
        """
        if not reading.names:
            return None
        try:
            HANDLE_HMP_COMMAND("cmdline: %s", reading.line)
            await self._run(reading, person, origin)
        except InnerLineError as inner:
            return str(inner)
        except LineError as line_error:
            error = str(line_error)
        except QmonError as qmon_error:
            error = f"Error: {qmon_error}"
            if isinstance(qmon_error, ConnectionLostError) and not person.interactive:
                self.quitting = True  # a script does not wait until the connection is there again
        except (OSError, MemoryError) as short:
            error = f"Error: {reason(short)}"
        except Exception as unexpected:
            line = reading.line
            _logger.exception("the line %r failed unexpectedly", line)
            kind = type(unexpected).__name__
            error = f"Error: internal error in '{line.strip()}' ({kind}: {reason(unexpected)}); see the log"
        else:
            return None
        if error and self.transcript is not None:
            self.transcript.answer(without_secrets(reading).clean(error))
        return error

    async def _run(self, reading: Reading, person: Person, origin: Origin | None) -> None:
        hides_answer = False
        if self.transcript is not None:
            shown = without_secrets(reading)
            self.transcript.line(shown.line)
            hides_answer = not shown.answer
        command, arguments = reading.command, reading.arguments
        if self.passes and (command is None or command.is_on_target):
            call = Call(self, person, reading, arguments.values, origin, hides_answer)
            readable = command is not None and arguments.error is None
            more = commands.find_on_qemu(command.entry.handler or "") if command and readable else None
            await (more or pass_on)(call)
            return
        if command is None:
            Call(self, person, reading, {}, origin).hint(qmp_hint(reading, self.target.commands()))
            raise LineError(reading.error or "")
        if not command.available:
            raise LineError(f'Command "{reading.text[: reading.start]}" is not available.')
        values = arguments.values
        if arguments.format is not None:
            values = values | self.formats.fill(arguments.format)
        if arguments.error is not None:
            said, _, _ = f"{arguments.error}\n".partition(NUL) if arguments.error else ("", "", "")
            typed = reading.text[: reading.names[-1].end]
            if arguments.bad is None and arguments.awaited is not None and isinstance(person, TakesHints):
                for line in usage(" ".join(name.text for name in reading.names[:-1]), command):
                    person.hint(line)
            if isinstance(person, TakesHints) and (meant := word_hint(reading)) is not None:
                person.hint(meant)
            raise LineError(f'{said}Try "help {typed}" for more information')
        call = Call(self, person, reading, values, origin, hides_answer)
        query = command.qmp_command if command.entry.handler is None else None
        if query is not None and (call.has(query) or kind_of(self.target) is not Kind.STORAGE_DAEMON):
            await _print_human_readable(call, query)
            return
        function = commands.find_function(command.entry.handler or "", self.target)
        if function is not None:
            await function.run(call)
        elif kind_of(self.target) is Kind.QEMU:
            await pass_on(call)
        else:
            raise LineError(refusal(call.typed, command, self.target))


async def _print_human_readable(call: Call, qmp_command: str) -> None:
    """Run a QMP command whose result is the text to print."""
    if not call.has(qmp_command) and qmp_command in REFUSALS:
        raise CommandError(REFUSALS[qmp_command])
    answer = await call.execute(qmp_command)
    text = str(answer[MULTI_LINE]).removesuffix("\n")
    if text:
        call.print(text)

"""A monitor: command tables and a target, and the one way in for a line."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable
from functools import cached_property

from qmon.errors import QmonError, reason
from qmon.hmp.handlers import MULTI_LINE, Call, find_handler, load_handlers
from qmon.hmp.jobs import EndedJobs
from qmon.hmp.line.arguments import NUL, FormatDefaults, read_arguments
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.line.words import comment_start
from qmon.hmp.origin import Origin
from qmon.hmp.person import InnerLineError, LineError, Person
from qmon.hmp.qmp_trace import TracedTarget
from qmon.hmp.record import Transcript, open_appending
from qmon.hmp.tables.hx import HxError
from qmon.hmp.tables.table import (
    Lookup,
    Tables,
    default_tables,
    look_up,
)
from qmon.host.trace import HANDLE_HMP_COMMAND
from qmon.qmp.target import Target

_logger = logging.getLogger(__name__)


class Monitor:
    """Runs lines for any number of persons. What lines leave behind for later ones is here, not with them."""

    def __init__(self, target: Target, tables: Tables | None = None) -> None:
        self.target = target
        self.line_target: Target = target
        """Where the QMP commands go that a line becomes: to ``target``, maybe by way of who tells of them."""
        self.formats = FormatDefaults()
        self.quitting = False
        """Whether a ``quit`` succeeded: who reads lines stops."""
        self.transcript: Transcript | None = None
        """Where what is given and answered is written down."""
        self.open_output: Callable[[str], int] = open_appending
        """Opens a file that a command appends to; may block. Raises OSError or ValueError."""
        self.jobs = EndedJobs(target)
        self._given_tables = tables

    @cached_property
    def tables(self) -> Tables:
        """The command tables, read when they are first needed. Raises HxError."""
        return self._given_tables or default_tables()

    def prepare(self) -> None:
        """Read what the first line needs, so that it need not wait for that; on a thread of its own."""
        with contextlib.suppress(HxError, OSError, MemoryError):  # the first line says so, or has more luck
            load_handlers()
            if self._given_tables is None:
                default_tables()

    def trace(self, tell: Callable[[str], None]) -> None:
        """Tell each QMP command that a line becomes, and its answer, from now on."""
        self.line_target = TracedTarget(self.target, self.tables, tell)

    async def run_line(self, line: str, person: Person) -> bool:
        """Run one line and print its answer through ``person``; False when it failed.

        Nothing that the line holds raises. A comment is taken off where the person may write one. Cancelling
        stops the waiting for the answer, not what the line has started.
        """
        error = await self.try_line(line, person)
        if error:
            person.print(error)
        return error is None

    async def try_line(self, line: str, person: Person, origin: Origin | None = None) -> str | None:
        """The same, but return what a failing line says, maybe "", instead of printing it; None otherwise.

        ``origin`` is where the line stands, when it was not typed.
        """
        if person.comments or origin is not None:
            line = line[: comment_start(line)]
        try:
            found = look_up(self.tables.main, line)
            if found is None:
                return None
            HANDLE_HMP_COMMAND("cmdline: %s", line)
            await self._run(line, found, person, origin)
        except InnerLineError as inner:
            return str(inner)
        except LineError as line_error:
            error = str(line_error)
        except QmonError as qmon_error:
            error = f"Error: {qmon_error}"
        except (OSError, MemoryError) as short:
            error = f"Error: {reason(short)}"
        except Exception as unexpected:
            _logger.exception("the line %r failed unexpectedly", line)
            kind = type(unexpected).__name__
            error = f"Error: internal error in '{line.strip()}' ({kind}: {reason(unexpected)}); see the log"
        else:
            return None
        if error and self.transcript is not None:
            self.transcript.answer(without_secrets(self.tables, line).clean(error))
        return error

    async def _run(self, line: str, found: Lookup, person: Person, origin: Origin | None) -> None:
        hides_answer = False
        if self.transcript is not None:
            shown = without_secrets(self.tables, line)
            self.transcript.line(shown.line)
            hides_answer = not shown.answer
        typed = line[: found.end]
        if found.command is None:
            raise LineError(f"unknown command: '{typed}'")
        entry = found.command.entry
        if not found.command.available:
            raise LineError(f'Command "{line[: found.start]}" is not available.')
        try:
            values = read_arguments(found.command, line, found.start, self.formats)
        except LineError as error:
            said, _, _ = f"{error}\n".partition(NUL) if str(error) else ("", "", "")
            raise LineError(f'{said}Try "help {typed}" for more information') from error
        typed_names = " ".join(found.path)
        call = Call(self, person, found.command, typed_names, values, line.strip(), origin, hides_answer)
        if entry.handler is None:
            await _print_human_readable(call)
            return
        function = find_handler(entry.handler)
        if function is None:
            raise LineError(f'Command "{call.typed}" is not available.')
        await function(call)


async def _print_human_readable(call: Call) -> None:
    """An entry with ``.cmd_info_hrt``: a QMP command whose answer is the text to print."""
    function = call.command.entry.others["cmd_info_hrt"]
    answer = await call.execute(function.removeprefix("qmp_").replace("_", "-"))
    text = str(answer[MULTI_LINE]).removesuffix("\n")
    if text:
        call.print(text)

"""A monitor: command tables and a target, and the one way in for a line."""

from __future__ import annotations

import logging
from functools import cached_property

from qmon.errors import QmonError, reason
from qmon.hmp.arguments import NUL, FormatDefaults, read_arguments
from qmon.hmp.handlers import Call, find_handler
from qmon.hmp.person import LineError, Person
from qmon.hmp.table import Lookup, Tables, default_tables, look_up
from qmon.hmp.words import comment_start
from qmon.qmp.target import Target
from qmon.trace import HANDLE_HMP_COMMAND

_logger = logging.getLogger(__name__)


class Monitor:
    """Runs lines for any number of persons. What lines leave behind for later ones is here, not with them."""

    def __init__(self, target: Target, tables: Tables | None = None) -> None:
        self.target = target
        self.formats = FormatDefaults()
        self.quitting = False
        """Whether a ``quit`` succeeded: who reads lines stops."""
        self._given_tables = tables

    @cached_property
    def tables(self) -> Tables:
        """The command tables, read when they are first needed. Raises HxError."""
        return self._given_tables or default_tables()

    async def run_line(self, line: str, person: Person) -> bool:
        """Run one line and print its answer through ``person``; False when it failed.

        Nothing that the line holds raises. A comment is taken off where the person may write one. Cancelling
        stops the waiting for the answer, not what the line has started.
        """
        if person.comments:
            line = line[: comment_start(line)]
        try:
            found = look_up(self.tables.main, line)
            if found is not None:
                HANDLE_HMP_COMMAND("cmdline: %s", line)
                await self._run(line, found, person)
        except LineError as error:
            if str(error):
                person.print(str(error))
            return False
        except QmonError as error:
            person.print(f"Error: {error}")
            return False
        except Exception as error:
            _logger.exception("the line %r failed unexpectedly", line)
            kind = type(error).__name__
            person.print(f"Error: internal error in '{line.strip()}' ({kind}: {reason(error)}); see the log")
            return False
        return True

    async def _run(self, line: str, found: Lookup, person: Person) -> None:
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
        call = Call(self, person, found.command, " ".join(found.path), values, line.strip())
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
    text = str(answer["human-readable-text"]).removesuffix("\n")
    if text:
        call.print(text)

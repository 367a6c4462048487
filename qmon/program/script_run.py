"""Runs the scripts of one process one after another until one fails, and reports at their end."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from qmon.errors import QmonError, reason
from qmon.hmp.ending import cut_off
from qmon.hmp.fronts.script_person import JsonPerson, OutputGoneError, ScriptPerson
from qmon.hmp.line.secrets import without_secrets
from qmon.hmp.migration_state import POLL_SECONDS, is_awaited, is_under_way
from qmon.hmp.monitor import Monitor
from qmon.hmp.scripts import Script, run_script
from qmon.migration.wire.transport import DEFER
from qmon.program.options import STDIN, Options, ScriptOption

_logger = logging.getLogger(__name__)

_LAST_LINE_SECONDS = 0.2
"""How long a line may still run when the machine has quit."""


class Life(Protocol):
    """What says when the scripts' end has come."""

    @property
    def is_quitting(self) -> bool:
        """Whether no further line may run."""

    @property
    def why_broken_off(self) -> str:
        """Why a script fails that is not at its end; "" if it was to quit."""

    async def wait_quit(self) -> None:
        """Wait until ``is_quitting``."""


class ScriptRun:
    """Runs scripts on one monitor and keeps count of failed lines."""

    def __init__(self, machine: Life, monitor: Monitor, options: Options) -> None:
        self._machine = machine
        self._monitor = monitor
        self._options = options
        self._person = (
            JsonPerson(monitor, keep_going=options.keep_going)
            if options.json
            else ScriptPerson(monitor, keep_going=options.keep_going, quiet=options.quiet)
        )
        self._cut_off = False

    @property
    def status(self) -> int:
        """The exit status so far: 1 if a line failed or a script was cut off, else 0."""
        return int(self._person.failed > 0 or self._cut_off)

    async def run(self, script: Script) -> bool:
        """Run a script until it or the machine ends; return whether the next script may run."""
        running = asyncio.create_task(run_script(self._monitor, script, self._person, self._person))
        end = asyncio.create_task(self._machine.wait_quit())
        await asyncio.wait([running, end], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if not running.done() and not self._monitor.quitting:
            self._break_off()
        if not running.done() and not self._machine.why_broken_off:
            await asyncio.wait([running], timeout=_LAST_LINE_SECONDS)
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
            return False
        try:
            return running.result() and not self._machine.is_quitting
        except OutputGoneError as error:
            self._cut_off = True
            self._say(str(error))
            return False
        except OSError as error:
            self._cut_off = True
            self._say(f"{script.name}: {reason(error)}")
            return False

    def _break_off(self) -> None:
        """Start no further line, because the machine was ended from elsewhere; report the running line."""
        self._monitor.quitting = True
        if why := self._machine.why_broken_off:
            self._cut_off = True
            self._say(why)
        origin = self._person.origin
        if origin is not None:
            self._cut_off = True
            self._say(f"the script was stopped at {origin}: {without_secrets(origin.reading)}")

    def sum_up(self) -> None:
        """Say how many lines failed, if the script continued after them (``-keep-going``)."""
        count = self._person.failed
        if count and self._options.keep_going:
            self._say(f"{count} {'line' if count == 1 else 'lines'} failed")

    async def waits(self) -> bool:
        """Return whether qmon keeps running after the last line: a destination that exports its disks does.

        A destination without exports waits here until a migration that has started is over; a source
        waits until the clients have left whose requests it forwards.
        """
        if self._monitor.quitting:
            return False
        target = self._monitor.target
        info = await target.execute("query-migrate")
        is_destination = self._options.incoming not in (None, DEFER) or is_awaited(info)
        if is_destination and await target.execute("query-block-exports"):
            _logger.warning("the script has ended: qmon serves the disks until a signal ends it")
            return True
        if _goes_on(info):
            _logger.warning("the script has ended: qmon waits for the incoming migration, then ends")
        while _goes_on(info) and not self._machine.is_quitting:
            await asyncio.sleep(POLL_SECONDS)
            info = await target.execute("query-migrate")
        if forwarded := info.get("x-qmon-forwarded"):
            clients = forwarded["clients"]
            text = "the script has ended: qmon forwards the requests of %d client%s, then ends"
            _logger.warning(text, clients, "s" * (clients != 1))
        while "x-qmon-forwarded" in info and not self._machine.is_quitting:
            await asyncio.sleep(POLL_SECONDS)
            info = await target.execute("query-migrate")
        return False

    async def end(self) -> int:
        """Report failed lines and what the end cuts off; return the exit status."""
        self.sum_up()
        if self._options.assume_yes and self._monitor.quitting:
            return self.status
        found = await cut_off(self._monitor.target)
        for each in found:
            self._say(f"the script ends while {each}")
        if any(each.is_migration for each in found):
            return 1
        if self.status or self._machine.is_quitting:
            return self.status
        info = await self._monitor.target.execute("query-migrate")
        if not is_awaited(info) and info.get("x-qmon-side") == "destination" and info["status"] == "failed":
            self._say(f"the incoming migration has failed: {info.get('error-desc')}")
            return 1
        if is_awaited(info):
            self._say(
                "the script ends before the incoming migration has completed:"
                " add -daemonize, a -monitor socket, or 'wait migrate'"
            )
            return 1
        return 0

    def _say(self, text: str) -> None:
        print(f"qmon: {text}", file=sys.stderr, flush=True)


def _goes_on(info: Mapping[str, Any]) -> bool:
    """Whether an incoming migration has begun, and will end by itself."""
    return is_awaited(info) and (is_under_way(info) or "x-qmon-reads" in info)


def open_scripts(options: Sequence[ScriptOption]) -> list[Script]:
    """Open every script before the first one runs. Raises QmonError. May block."""
    lines = 0
    scripts = []
    for option in options:
        if option.is_line:
            lines += 1
            scripts.append(Script("-c", option.text, number=lines))
        elif option.text == STDIN:
            scripts.append(Script("stdin", sys.stdin))
        else:
            try:
                file = os.fdopen(_open_without_waiting(option.text), "rb")
            except (OSError, ValueError) as error:
                raise QmonError(f"-script {option.text}: {reason(error)}") from error
            scripts.append(Script(option.text, file, (os.path.realpath(option.text),)))
    return scripts


def _open_without_waiting(path: str) -> int:
    """Open a FIFO without waiting for a writer; reading waits for one (``qmon.hmp.scripts``)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    os.set_blocking(descriptor, True)
    return descriptor

"""The scripts of one process: run one after another until one fails, and what is said at their end."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence

from qmon.errors import QmonError, reason
from qmon.hmp.monitor import Monitor
from qmon.hmp.script import Script, left_under_way, run_script
from qmon.hmp.script_person import JsonPerson, ScriptPerson
from qmon.hmp.secrets import without_secrets
from qmon.machine.embedded import EmbeddedMachine
from qmon.options import STDIN, Options, ScriptOption

_LAST_LINE_SECONDS = 0.2
"""How long a line may go on when the machine has quit."""


class ScriptRun:
    """``person`` gives all the lines, and is told what becomes of them."""

    def __init__(self, machine: EmbeddedMachine, monitor: Monitor, options: Options) -> None:
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
        """The exit status, as far as the scripts make it."""
        return int(self._person.failed > 0 or self._cut_off)

    async def run(self, script: Script) -> bool:
        """Run a script up to its end or the machine's; whether the process may go on.

        Raises OutputGoneError when nobody reads what it prints.
        """
        running = asyncio.create_task(run_script(self._monitor, script, self._person, self._person))
        end = asyncio.create_task(self._machine.wait_quit())
        await asyncio.wait([running, end], return_when=asyncio.FIRST_COMPLETED)
        end.cancel()
        if not running.done() and not self._monitor.quitting:
            self._break_off()
        if not running.done():
            await asyncio.wait([running], timeout=_LAST_LINE_SECONDS)
        if not running.done():
            running.cancel()
            await asyncio.wait([running])
            return False
        try:
            return running.result() and not self._machine.is_quitting
        except OSError as error:
            self._cut_off = True
            self._say(f"{script.name}: {reason(error)}")
            return False

    def _break_off(self) -> None:
        """The end has come from elsewhere: no further line begins, and the one that runs is told of."""
        self._monitor.quitting = True
        origin = self._person.origin
        if origin is not None:
            self._cut_off = True
            line = without_secrets(self._monitor.tables, origin.line).line
            self._say(f"told to end at {origin}: {line}")

    def sum_up(self) -> None:
        """Say how many lines failed, where that did not end the script."""
        count = self._person.failed
        if count and self._options.keep_going:
            self._say(f"{count} {'line' if count == 1 else 'lines'} failed")

    async def end(self) -> int:
        """Say what is to be said when the process ends; return the exit status."""
        self.sum_up()
        if self._options.assume_yes and self._monitor.quitting:
            return self.status
        left = await left_under_way(self._monitor)
        if left is None:
            return self.status
        self._say(left)
        return 1

    def _say(self, text: str) -> None:
        print(f"qmon: {text}", file=sys.stderr, flush=True)


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
                file = open(option.text, "rb")  # noqa: SIM115 - it is read as long as the process runs
            except (OSError, ValueError) as error:
                raise QmonError(f"-script {option.text}: {reason(error)}") from error
            scripts.append(Script(option.text, file, (os.path.realpath(option.text),)))
    return scripts

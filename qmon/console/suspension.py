"""Ctrl-Z: the shell gets the terminal while the machine goes on, until ``fg``."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from typing import Protocol

from qmon.console.programs import Programs
from qmon.host.standard_streams import put_null

_SAID = "The machine goes on; fg comes back to this console"
_NO_SHELL = "Ctrl-Z: no shell waits for qmon on this terminal"


class Shell(Protocol):
    """The shell that started the program on this terminal."""

    async def give_terminal(self) -> None:
        """Give it the terminal; return when it is the console's again. Raises OSError if it has gone."""


class Suspension:
    """Lends the terminal to the shell, at most once at a time."""

    def __init__(
        self,
        shell: Shell | None,
        programs: Programs,
        notify: Callable[[str], None],
        leave: Callable[[], None],
    ) -> None:
        """``leave`` is called if the terminal has gone meanwhile."""
        self._shell = shell
        self._programs = programs
        self._notify = notify
        self._leave = leave
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Handle Ctrl-Z."""
        if self._shell is None:
            self._notify(_NO_SHELL)
        elif self._task is None:
            self._notify(_SAID)
            self._task = asyncio.create_task(self._lend(self._shell))

    async def _lend(self, shell: Shell) -> None:
        try:
            async with self._programs.lent_to_shell():
                await shell.give_terminal()
        except OSError:
            self._leave()
        else:
            self._task = None

    async def close(self) -> None:
        """End the console's use of the terminal. If the shell has it now, it is not touched any more."""
        if self._task is None:
            return
        put_null(descriptor for descriptor in range(3) if os.isatty(descriptor))
        self._task.cancel()
        await asyncio.wait([self._task])

"""SIGHUP, and a terminal that has gone: nothing ends that others still use."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from qmon.chardev.stream import has_hung_up
from qmon.hmp.ending import cut_off
from qmon.machine.embedded import EmbeddedMachine

if TYPE_CHECKING:
    from qmon.console.session import Console

_logger = logging.getLogger(__name__)


class Hangup:
    """What becomes of a process whose terminal has gone. Made and used on the loop."""

    def __init__(self, machine: EmbeddedMachine, other_monitors: bool) -> None:
        """``other_monitors``: whether there are monitors that need no terminal."""
        self._machine = machine
        self._other_monitors = other_monitors
        self._terminals = [descriptor for descriptor in range(3) if os.isatty(descriptor)]
        self._settling: asyncio.Task[None] | None = None
        self.console: Console | None = None
        """What has the terminal: it is told to leave, and its end then calls ``settle``."""
        self.goes_on = False
        """Whether the process has gone on without a terminal."""

    def listen(self) -> None:
        """Decide at each SIGHUP from now on, unless the process was started so as to ignore it (nohup)."""
        if is_heard():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._come)

    @property
    def terminal_has_gone(self) -> bool:
        """Whether a terminal that was there is not any more: the signal may come a moment later."""
        return any(has_hung_up(descriptor) for descriptor in self._terminals)

    def _come(self) -> None:
        if self.console is not None:
            self.console.leave()
        else:
            self._settling = asyncio.create_task(self.settle())

    async def settle(self) -> None:
        """End the program, or go on without the terminal where something would be cut off."""
        reasons = [each.there_is for each in await cut_off(self._machine.registry)]
        if self._other_monitors:
            reasons.append("another monitor is there")
        if not reasons:
            self._machine.request_quit()
            return
        if not self.goes_on:  # a terminal that closes is seen, and its signal comes beside that
            self.goes_on = True
            self._let_go()
            _logger.warning("hung up: qmon goes on without a terminal: %s", ", ".join(reasons))

    def _let_go(self) -> None:
        """Have what is still printed go nowhere, and nothing more come."""
        if self._terminals:
            null = os.open(os.devnull, os.O_RDWR)
            for descriptor in self._terminals:
                os.dup2(null, descriptor)
            os.close(null)
            self._terminals.clear()


def is_heard() -> bool:
    """Whether SIGHUP is this program's affair."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

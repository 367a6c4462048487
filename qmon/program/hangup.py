"""SIGHUP: when its terminal is closed, qmon ends, or stays if guests, migrations or monitors need it."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
from typing import TYPE_CHECKING

from qmon.chardev.stream import has_hung_up
from qmon.hmp.ending import cut_off
from qmon.host.standard_streams import put_null
from qmon.machine.embedded import EmbeddedMachine

if TYPE_CHECKING:
    from qmon.console.session import Console

_logger = logging.getLogger(__name__)


class Hangup:
    """Decides whether the process ends when its terminal is closed. Made and used on the loop."""

    def __init__(self, machine: EmbeddedMachine, other_monitors: bool) -> None:
        """``other_monitors``: whether there are monitors on other devices than the terminal."""
        self._machine = machine
        self._other_monitors = other_monitors
        self._terminals = [descriptor for descriptor in range(3) if os.isatty(descriptor)]
        self._settling: asyncio.Task[None] | None = None
        self.console: Console | None = None
        """The console on the terminal. SIGHUP makes it leave; when it has ended, ``settle`` is called."""
        self.goes_on = False
        """Whether the process has stayed without a terminal."""

    def listen(self) -> None:
        """Handle SIGHUP from now on, unless the process was started with it ignored (nohup)."""
        if is_heard():
            asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self._come)

    @property
    def terminal_has_gone(self) -> bool:
        """Whether a terminal of the process has hung up; SIGHUP may come a moment later."""
        return any(has_hung_up(descriptor) for descriptor in self._terminals)

    def _come(self) -> None:
        if self.console is not None:
            self.console.leave()
        else:
            self._settling = asyncio.create_task(self.settle())

    async def settle(self) -> None:
        """End the program, or stay without the terminal if clients or a migration would be cut off."""
        reasons = [each.there_is for each in await cut_off(self._machine.registry)]
        if self._other_monitors:
            reasons.append("another monitor is there")
        if not reasons:
            self._machine.request_quit()
            return
        if not self.goes_on:  # a closed terminal is found both by its input's end and by SIGHUP
            self.goes_on = True
            self._let_go()
            _logger.warning("hangup: qmon keeps running without a terminal: %s", ", ".join(reasons))

    def _let_go(self) -> None:
        """Put /dev/null in the place of the terminal."""
        put_null(self._terminals)
        self._terminals.clear()


def is_heard() -> bool:
    """Whether SIGHUP is not ignored."""
    return signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN

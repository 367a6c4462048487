"""A QMP socket in the state folder of each qmon: the way of ``qmon -connect NAME`` to it."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qmon.errors import CommandError, reason
from qmon.hmp.monitor import Monitor
from qmon.host.running import Record
from qmon.host.sockets import BACKLOG
from qmon.qmp.target import Arguments, Listener, Target

if TYPE_CHECKING:
    from qmon.chardev.base import Serve
    from qmon.chardev.sockets import SocketChardev

_logger = logging.getLogger(__name__)


class Consoles:
    """The consoles of other processes on this process's machine. Made and used on the loop.

    What serves them is loaded when the first one connects: most runs never have one.
    """

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._record: Record | None = None
        self._listener: socket.socket | None = None
        self._chardev: SocketChardev | None = None
        self._beginning: asyncio.Task[None] | None = None

    def open(self, state_folder: Path, name: str | None, *, tells: bool) -> None:
        """Let consoles find this process. If that is not possible, warn if ``tells``."""
        try:
            record = self._record = Record(state_folder, name)
            listener = self._listener = socket.socket(socket.AF_UNIX)
            listener.bind(record.socket)
            os.chmod(record.socket, 0o600)
            listener.listen(BACKLOG)
            asyncio.get_running_loop().add_reader(listener, self._begin)
        except OSError as error:
            self._forget()
            level = logging.WARNING if tells else logging.DEBUG
            _logger.log(level, "'qmon -connect' can't find this process: %s", reason(error))

    def _begin(self) -> None:
        assert self._listener is not None
        asyncio.get_running_loop().remove_reader(self._listener)
        self._beginning = asyncio.create_task(self._serve(self._listener))

    async def _serve(self, listener: socket.socket) -> None:
        """Take over the listener, with the client that waits there."""
        chardev, serve = await asyncio.to_thread(_load, self._monitor)
        chardev.take_descriptor = lambda name: listener.detach()
        chardev.attach(serve)
        self._chardev = chardev
        try:
            await chardev.open()
        except CommandError as error:
            _logger.warning("'qmon -connect' can't be served: %s", error)

    async def close(self) -> None:
        """Disconnect the consoles; nobody finds this process any more."""
        if self._beginning is not None:
            await asyncio.wait([self._beginning])
        if self._chardev is not None:
            await self._chardev.close()
        self._forget()

    def _forget(self) -> None:
        if self._listener is not None:
            if self._listener.fileno() >= 0:
                asyncio.get_running_loop().remove_reader(self._listener)
            self._listener.close()
            self._listener = None
        if self._record is not None:
            self._record.remove()
            self._record = None


class _WithPrivateEvents:
    """A target that sends other consoles the events that this process's own consoles see."""

    def __init__(self, target: Target) -> None:
        self._target = target

    def commands(self) -> frozenset[str]:
        return self._target.commands()

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        return await self._target.execute(command, arguments)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._target.subscribe(lambda event: listener(replace(event, private=False)))


def _load(monitor: Monitor) -> tuple[SocketChardev, Serve]:
    """Return a device for a passed listener, and what serves its clients. Runs on its own thread."""
    from qmon.chardev.sockets import SocketChardev
    from qmon.hmp.fronts.passed_line import PassedLines
    from qmon.qmp.server import QmpServer

    listener = {"type": "fd", "data": {"str": "0"}}
    chardev = SocketChardev("consoles", {"addr": listener, "server": True, "wait": False})
    return chardev, QmpServer(_WithPrivateEvents(monitor.target), PassedLines(monitor).run).serve

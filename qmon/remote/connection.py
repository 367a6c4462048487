"""A connection to a QMP server as a Target. It is taken up again when it is lost; nothing is sent twice."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

from qemu.qmp import (
    ConnectError,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    QMPError,
    Runstate,
)

from qmon.errors import CommandError, CommandNotFoundError, QmonError, reason
from qmon.notation.address import InetAddress, UnixAddress
from qmon.notation.plain_text import one_line
from qmon.qmp.events import EventBus
from qmon.qmp.target import Arguments, Event, Listener
from qmon.remote.address import RemoteAddress
from qmon.remote.client import check_sendable, make_client
from qmon.remote.remote import BACK, LOST

BACKOFF_FIRST_SECONDS = 0.25
BACKOFF_MOST_SECONDS = 5.0


class ConnectionLostError(CommandError):
    """A command was not sent, or its answer did not come, because the connection was lost."""


class Connection:
    """A Remote behind a QMP server."""

    def __init__(self, address: RemoteAddress) -> None:
        self.address = address
        self.ended = asyncio.Event()
        self.reconnects = False
        self.version: Mapping[str, Any] = {}
        self.why_lost = ""
        self._bus = EventBus()
        self._commands: frozenset[str] = frozenset()
        self._client: QMPClient | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._turn = asyncio.Lock()
        self._shuts_down = False
        self._closing = asyncio.Event()

    async def open(self) -> None:
        """Connect. Raises QmonError in one line if that is not possible."""
        try:
            client = await self._connect()
        except QmonError as error:
            raise QmonError(f"-connect {self.address}: {error}") from error
        self._keeper = asyncio.create_task(self._keep(client))

    async def close(self) -> None:
        """Leave. What runs at the other end goes on."""
        self._closing.set()
        if self._keeper is not None:
            await self._keeper
        self.ended.set()

    # A Target

    def commands(self) -> frozenset[str]:
        return self._commands

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._bus.subscribe(listener)

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command, after those that were sent before it.

        If the caller is cancelled, the command goes on, and later ones wait for it. So only one is ever on
        its way, and a command out of band is never behind a full queue.
        """
        check_sendable(command, arguments or {})
        return await asyncio.shield(asyncio.create_task(self._in_turn(command, arguments)))

    async def execute_out_of_band(self, command: str, arguments: Arguments | None = None) -> Any:
        """Run a command at once, although another one runs. Raises CommandError if that is not possible."""
        check_sendable(command, arguments or {})
        return await self._execute(command, arguments, oob=True)

    async def _in_turn(self, command: str, arguments: Arguments | None) -> Any:
        async with self._turn:
            return await self._execute(command, arguments)

    async def _execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        client = self._client
        if client is None:
            raise ConnectionLostError(f"not connected to {self.address}: {self.why_lost}: nothing was sent")
        try:
            return await client.execute(command, dict(arguments) if arguments else None, oob=oob)
        except ExecuteError as error:
            raise _as_ours(command, error) from error
        except (ExecInterruptedError, QMPError) as error:
            if command == "quit" or self._shuts_down:
                return {}
            raise ConnectionLostError(
                f"the connection to {self.address} was lost: whether the command took effect is not known"
            ) from error

    # Connecting

    async def _connect(self) -> QMPClient:
        """Connect, negotiate and learn the commands. Raises QmonError."""
        client = make_client(self._hear)
        try:
            await client.connect(_place(self.address))
            names = await client.execute("query-commands")
        except (QMPError, OSError) as error:
            await _disconnect(client)
            raise QmonError(why_not(error)) from error
        except BaseException:
            await _disconnect(client)
            raise
        assert isinstance(names, list)
        self._commands = frozenset(str(each["name"]) for each in names)
        greeting = client.greeting
        self.version = {} if greeting is None else dict(greeting.QMP.version)
        self._shuts_down = False
        self.why_lost = ""
        self._client = client
        return client

    async def _keep(self, client: QMPClient | None) -> None:
        """Wait until the connection is lost for good or closed; connect again where that is wanted."""
        while client is not None:
            why = await self._until_lost(client)
            self._client, self.why_lost = None, why
            if self._closing.is_set():
                break
            ended = self._shuts_down or not self.reconnects
            self._tell(LOST, {"address": str(self.address), "reason": why, "ended": ended})
            if ended:
                break
            client = await self._reconnect()
            if client is not None:
                self._tell(BACK, {"address": str(self.address)})
        self.ended.set()

    async def _until_lost(self, client: QMPClient) -> str:
        """Wait until the connection is lost or is to be closed; return the reason."""
        while client.runstate is Runstate.RUNNING and await self._unless_closed(client.runstate_changed()):
            pass
        return await _disconnect(client) or "the other end closed it"

    async def _unless_closed(self, work: Coroutine[Any, Any, Any]) -> bool:
        """Wait for work or for ``close``, which cancels it; return whether the work is done."""
        task, closing = asyncio.create_task(work), asyncio.create_task(self._closing.wait())
        await asyncio.wait([task, closing], return_when=asyncio.FIRST_COMPLETED)
        closing.cancel()
        if task.done():
            task.result()
            return True
        task.cancel()
        await asyncio.wait([task])
        return False

    def _hear(self, message: Message) -> None:
        event = as_event(message)
        self._shuts_down = self._shuts_down or event.name == "SHUTDOWN"
        self._bus.pass_on(event)

    def _tell(self, name: str, data: dict[str, Any]) -> None:
        self._bus.emit(name, data, private=True)

    async def _reconnect(self) -> QMPClient | None:
        """Try to connect, less and less often; return None if the connection is closed meanwhile."""
        wait = BACKOFF_FIRST_SECONDS
        while await self._unless_closed(asyncio.sleep(wait)):
            wait = min(wait * 2, BACKOFF_MOST_SECONDS)
            try:
                if await self._unless_closed(self._connect()):
                    return self._client
            except QmonError as error:
                self.why_lost = str(error)
        return None


def _as_ours(command: str, error: ExecuteError) -> CommandError:
    if error.error_class == CommandNotFoundError.error_class:
        return CommandNotFoundError(one_line(command))
    return CommandError(str(error), error.error_class)


def as_event(message: Message) -> Event:
    """Return an event of ours; the time is the server's."""
    stamp = message.get("timestamp")
    data = message.get("data")
    seconds = 0.0
    if isinstance(stamp, dict):
        seconds = _number(stamp.get("seconds")) + _number(stamp.get("microseconds")) / 1e6
    return Event(str(message.get("event")), data if isinstance(data, dict) else {}, seconds)


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else 0.0


async def _disconnect(client: QMPClient) -> str:
    """End a client; return why it had ended by itself, "" if it had not."""
    try:
        await client.disconnect()
    except EOFError:
        return ""
    except (QMPError, OSError, ValueError, RecursionError) as error:
        return why_not(error)
    return ""


def _place(address: RemoteAddress) -> str | tuple[str, int] | socket.socket:
    place = address.place
    if isinstance(place, UnixAddress):
        return place.path
    if isinstance(place, InetAddress):
        return place.host or "localhost", _port(place.port)
    try:
        return socket.socket(fileno=place.number)
    except OSError as error:
        raise QmonError(f"descriptor {place.number} is no socket: {reason(error)}") from error


def _port(text: str) -> int:
    if text.isdecimal():
        return int(text)
    try:
        return socket.getservbyname(text, "tcp")
    except OSError as error:
        raise QmonError(f"there is no service '{text}'") from error


def why_not(error: BaseException) -> str:
    """Return why a connection could not be made or was lost, in one line."""
    while isinstance(error, ConnectError) or hasattr(error, "exc"):
        error = error.exc
    if isinstance(error, EOFError):
        return "the other end closed the connection at once"
    if isinstance(error, OSError):
        with contextlib.suppress(ValueError, TypeError):
            if error.errno is not None and error.errno > 0 and error.errno in errno.errorcode:
                return os.strerror(error.errno)
    return one_line(reason(error))

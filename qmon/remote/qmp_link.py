"""A connection to a QMP server, by qemu.qmp's client."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from typing import Any

from qemu.qmp import (
    ConnectError,
    ExecInterruptedError,
    ExecuteError,
    Message,
    QMPClient,
    QMPError,
    Runstate,
    StateError,
)

from qmon.errors import CommandError, CommandNotFoundError, ConnectionLostError, QmonError, reason
from qmon.host.peer_process import peer_process
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Arguments, Event
from qmon.remote.address import RemoteAddress
from qmon.remote.client import check_sendable, make_client
from qmon.remote.greeting import Patience, greeted
from qmon.remote.link import Hear, lost, no_descriptors, no_out_of_band
from qmon.remote.secured import Secure
from qmon.remote.wrong_peer import is_qmp, not_qmp

_GETFD = "getfd"


class QmpLink:
    """A Link (``qmon.remote.link``) to a QMP server that has greeted."""

    def __init__(
        self, address: RemoteAddress, client: QMPClient, sock: socket.socket, commands: frozenset[str]
    ) -> None:
        self.commands = commands
        self._is_direct = address.tls_creds is None
        """Whether the socket is the server's, and not our own end of TLS."""
        self.peer = peer_process(sock) if self._is_direct else None
        is_local = self._is_direct and sock.family == socket.AF_UNIX
        self.can_pass_descriptors = is_local and _GETFD in commands
        greeting = client.greeting
        self.version: Mapping[str, Any] = {} if greeting is None else dict(greeting.QMP.version)
        self.takes_out_of_band = greeting is not None and "oob" in greeting.QMP.capabilities
        self._address = address
        self._client = client
        self._sock = sock
        self._ending: asyncio.Task[str] | None = None

    async def execute(self, command: str, arguments: Arguments | None, *, oob: bool = False) -> Any:
        check_sendable(command, arguments or {})
        if oob and not self.takes_out_of_band:
            raise no_out_of_band(command)
        try:
            given = dict(arguments) if arguments else None
            return await self._client.execute(command, given, oob=oob)
        except ExecuteError as error:
            raise _as_ours(command, error) from error
        except ExecInterruptedError as error:
            raise lost(self._address) from error
        except StateError as error:
            raise _not_connected(self._address) from error
        except QMPError as error:
            raise CommandError(f"the answer to {command} is not QMP: {reason(error)}") from error

    async def pass_descriptor(self, name: str, descriptor: int) -> None:
        if not self.can_pass_descriptors:
            raise no_descriptors()
        check_sendable(_GETFD, {"fdname": name})
        if self._client.runstate is not Runstate.RUNNING:
            raise _not_connected(self._address)
        try:
            socket.send_fds(self._sock, [b" "], [descriptor])  # white space between two messages
        except OSError as error:
            raise CommandError(f"the descriptor '{name}' was not passed: {reason(error)}") from error
        await self.execute(_GETFD, {"fdname": name})

    def duplicate(self) -> socket.socket | None:
        return self._sock.dup() if self._is_direct and self._sock.fileno() >= 0 else None

    async def wait_ended(self) -> str:
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        return await asyncio.shield(self._end()) or "the other end closed it"

    async def close(self) -> None:
        await self._end()

    def _end(self) -> asyncio.Task[str]:
        """Return the one task that disconnects: qemu.qmp's must be neither repeated nor cancelled."""
        if self._ending is None:
            self._ending = asyncio.create_task(_disconnect(self._client))
        return self._ending


async def open_qmp(
    address: RemoteAddress,
    hear: Hear,
    patience: Patience,
    commands: frozenset[str] = frozenset(),
    secure: Secure | None = None,
) -> QmpLink:
    """Connect, negotiate, and learn the commands, unless they are given. Raises QmonError."""
    sock, first = await greeted(address.socket, patience, "-qmp", secure)
    if not is_qmp(first):
        sock.close()
        raise QmonError(not_qmp(str(address), first))
    client = make_client(lambda message: hear(as_event(message)))
    try:
        async with asyncio.timeout(patience.seconds):
            await client.connect(sock)
            commands = commands or _names(await client.execute("query-commands"))
    except TimeoutError as error:
        await _disconnect(client)
        raise QmonError(
            f"no answer comes after the greeting: gave up after {patience.seconds:g} s"
        ) from error
    except (QMPError, OSError) as error:
        await _disconnect(client)
        raise QmonError(why_not(error)) from error
    except BaseException:
        await _disconnect(client)
        raise
    return QmpLink(address, client, sock, commands)


def _names(answer: object) -> frozenset[str]:
    """Return the names in an answer of query-commands; what has another shape is left out."""
    rows = answer if isinstance(answer, list) else []
    return frozenset(str(row["name"]) for row in rows if isinstance(row, dict) and "name" in row)


def _not_connected(address: RemoteAddress) -> ConnectionLostError:
    """Return the error of a command that was not sent."""
    return ConnectionLostError(f"not connected to {address}: nothing was sent")


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

"""Where a destination's console listens: takes connections, reads their first lines, and hands them on."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

from qmon.errors import QmonError, reason
from qmon.host.exposure import Exposure
from qmon.host.sockets import bind_failure
from qmon.notation.address import Address, UnixAddress
from qmon.remote.migration.wire.first_line import answer, read_first_line
from qmon.remote.secured import Secure

_logger = logging.getLogger(__name__)

CONNECTIONS_MAX = 64
"""Connections that may stand at the door at a time, their first lines unread."""

Take = Callable[[socket.socket, dict[str, Any], str], Awaitable[None]]
"""Takes a connection, its first line, and who is at its other end, for a person.

Answers the line, or raises QmonError, which is then its answer.
"""


class Door:
    """A listening socket, from ``open`` to ``close``."""

    def __init__(
        self,
        address: Address,
        take: Take,
        tell: Callable[[str], None],
        exposure: Exposure,
        secure: Secure | None = None,
    ) -> None:
        """``tell`` is told of who comes and is none of ours. ``secure`` begins TLS on each connection."""
        self.address = address
        self.where = ""
        """The address that was bound, with the port that the kernel has chosen for 0."""
        self._take = take
        self._tell = tell
        self._exposure = exposure
        self._secure = secure
        self._listener: socket.socket | None = None
        self._task: asyncio.Task[None] | None = None
        self._guests: set[asyncio.Task[None]] = set()

    def open(self) -> None:
        """Listen. Raises QmonError."""
        try:
            self._listener = self._exposure.listen(
                self.address, "this console", has_tls=self._secure is not None
            )
        except OSError as error:
            raise QmonError(bind_failure(self.address, error)) from error
        self._listener.setblocking(False)
        name = self._listener.getsockname()
        self.where = f"tcp:{_host(name[0])}:{name[1]}" if isinstance(name, tuple) else f"unix:{name}"
        self._task = asyncio.create_task(self._accept(self._listener))

    @property
    def is_open(self) -> bool:
        return self._listener is not None

    @property
    def socket_address(self) -> dict[str, str]:
        """The same as QAPI's SocketAddress."""
        assert self._listener is not None
        name = self._listener.getsockname()
        if isinstance(name, tuple):
            return {"type": "inet", "host": name[0], "port": str(name[1])}
        return {"type": "unix", "path": name}

    async def close(self) -> None:
        """Listen no more; idempotent."""
        tasks = [*filter(None, [self._task]), *self._guests]
        for each in tasks:
            each.cancel()
        if tasks:
            await asyncio.wait(tasks)
        if self._listener is not None:
            self._listener.close()
            self._listener = None
            if isinstance(self.address, UnixAddress):
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self.address.path)

    async def _accept(self, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                sock, _ = await loop.sock_accept(listener)
            except OSError as error:  # too many open files, for example
                _logger.warning("a connection could not be accepted: %s", reason(error))
                await asyncio.sleep(1)
                continue
            if len(self._guests) >= CONNECTIONS_MAX:
                sock.close()
                continue
            task = asyncio.create_task(self._greet(sock))
            self._guests.add(task)
            task.add_done_callback(self._guests.discard)

    async def _greet(self, sock: socket.socket) -> None:
        who = peer_name(sock)
        try:
            make_lasting(sock)
            if self._secure is not None:
                sock.setblocking(True)
                sock = (await asyncio.to_thread(self._secure, sock)).local
            line = await read_first_line(sock)
        except (QmonError, OSError, TimeoutError) as error:
            sock.close()
            self._tell(f"A connection from {who} is refused: {reason(error) or 'it sends nothing'}")
            return
        except BaseException:
            sock.close()
            raise
        try:
            await self._take(sock, line, who)
        except (QmonError, OSError, TimeoutError) as error:
            with contextlib.suppress(OSError, TimeoutError):
                await answer(sock, reason(error))
            sock.close()
        except BaseException:
            sock.close()
            raise


def _host(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def peer_name(sock: socket.socket) -> str:
    """Return who is at the other end of a connection, for a person."""
    try:
        name = sock.getpeername()
    except OSError:
        return "a peer that has gone"
    return f"{name[0]}:{name[1]}" if isinstance(name, tuple) else "this host"


def make_lasting(sock: socket.socket) -> None:
    """Have the kernel find out that the line of a TCP connection is dead, also while nothing is sent."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)

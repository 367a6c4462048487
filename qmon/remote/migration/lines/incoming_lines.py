"""The data connections that a destination's console has taken: one for each disk, and one for the memory."""

from __future__ import annotations

import socket

from qmon.errors import CommandError, QmonError
from qmon.qmp.target import Target
from qmon.remote.migration.lines.handing import Handing
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.lines.relay import Relay
from qmon.remote.migration.wire.first_line import answer
from qmon.remote.remote import Remote

MEMORY_NAME = "qmon-memory"
_NOT_AWAITED = "no migration waits for this connection"


class IncomingLines:
    """Joins the disks' connections to the QEMU's NBD server, and gives it the memory's."""

    def __init__(self, remote: Remote, server: PrivateServer) -> None:
        self._remote: Target = remote
        self._server = server
        self._handing = Handing(remote)
        self._relays: list[Relay] = []
        self._memory: socket.socket | None = None

    @property
    def has_memory(self) -> bool:
        """Whether the memory's connection waits here."""
        return self._memory is not None

    async def take_disk(self, sock: socket.socket, export: str) -> None:
        """Answer a disk's connection, and join it to its export. Raises QmonError, OSError."""
        if export not in self._server.exports:
            raise QmonError(_NOT_AWAITED)
        inner = await self._server.connect()
        try:
            await answer(sock)
        except BaseException:
            inner.close()
            raise
        sock.setblocking(True)
        self._relays.append(Relay(sock, inner, lambda why: None))

    async def take_memory(self, sock: socket.socket) -> None:
        """Answer the memory's connection, and keep it. Raises QmonError, OSError."""
        if self.has_memory:
            raise QmonError(_NOT_AWAITED)
        self._memory = sock
        try:
            await answer(sock)
        except BaseException:
            self._memory = None
            raise

    async def read_memory(self) -> None:
        """``migrate-incoming`` on the memory's connection. Raises CommandError."""
        sock, self._memory = self._memory, None
        if sock is None:
            raise CommandError("the connection for the memory is not there")
        uri = {"uri": await self._handing.take(sock, MEMORY_NAME)}
        try:
            await self._remote.execute("migrate-incoming", {**uri, "exit-on-error": False})
        except CommandError as error:
            if "exit-on-error" not in str(error):
                raise
            await self._remote.execute("migrate-incoming", uri)  # QEMU before 9.1

    def end(self) -> None:
        """End the disks' connections, and the memory's if the QEMU does not have it; idempotent."""
        for each in self._relays:
            each.close()
        self._relays.clear()
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    async def close(self) -> None:
        """End all of them; idempotent."""
        self.end()
        await self._handing.close()

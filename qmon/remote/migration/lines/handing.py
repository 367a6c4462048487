"""Gives data connections to a QEMU: as descriptors where its QMP connection carries them, else relayed."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from qmon.errors import CommandError, naming
from qmon.host.sockets import connect
from qmon.notation.address import UnixAddress
from qmon.remote.migration.lines.private_folder import PrivateFolder
from qmon.remote.migration.lines.relay import Relay
from qmon.remote.remote import Remote

_CONNECT_TRIES, _CONNECT_PAUSE_SECONDS = 100, 0.02


class Handing:
    """The connections that one side has given to its QEMU. ``close`` it at the end."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._names: list[str] = []
        self._relays: list[Relay] = []
        self._waiting: list[asyncio.Task[None]] = []
        self._folder: PrivateFolder | None = None

    @property
    def is_direct(self) -> bool:
        """Whether QEMU gets the connections themselves."""
        return self._remote.can_pass_descriptors

    async def give(self, sock: socket.socket, name: str) -> dict[str, Any]:
        """Give a connection; return the address under which QEMU connects to it (QAPI: SocketAddress).

        The socket is not the caller's any more. Raises CommandError.
        """
        sock.setblocking(True)
        if self.is_direct:
            self._names.append(name)  # first: what is interrupted may have been passed
            with sock:
                await self._remote.pass_descriptor(name, sock.fileno())
            return {"type": "fd", "str": name}
        path = self._path(name, sock)
        with naming(path, CommandError):
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen(1)
        listener.setblocking(False)
        self._waiting.append(asyncio.create_task(self._relay_next(listener, sock)))
        return {"type": "unix", "path": path}

    async def take(self, sock: socket.socket, name: str) -> str:
        """Prepare a connection from which QEMU is to read a migration; return its URI. Raises CommandError.

        QEMU must be told to listen at it next.
        """
        sock.setblocking(True)
        if self.is_direct:
            self._names.append(name)  # first: what is interrupted may have been passed
            with sock:
                await self._remote.pass_descriptor(name, sock.fileno())
            return f"fd:{name}"
        path = self._path(name, sock)
        self._waiting.append(asyncio.create_task(self._relay_to(path, sock)))
        return f"unix:{path}"

    def _path(self, name: str, sock: socket.socket) -> str:
        if self._folder is None:
            try:
                with naming("a folder for sockets can't be made", CommandError):
                    self._folder = PrivateFolder()
            except CommandError:
                sock.close()
                raise
        return str(self._folder.path / name)

    async def _relay_next(self, listener: socket.socket, sock: socket.socket) -> None:
        """Relay the next connection to a socket."""
        try:
            inner, _ = await asyncio.get_running_loop().sock_accept(listener)
        except BaseException:
            sock.close()
            raise
        finally:
            listener.close()
        inner.setblocking(True)
        self._relays.append(Relay(sock, inner, lambda why: None))

    async def _relay_to(self, path: str, sock: socket.socket) -> None:
        """Connect to where QEMU listens in a moment, and relay."""
        for _ in range(_CONNECT_TRIES):
            with contextlib.suppress(OSError):
                inner = await asyncio.to_thread(connect, UnixAddress(path))
                self._relays.append(Relay(sock, inner, lambda why: None))
                return
            await asyncio.sleep(_CONNECT_PAUSE_SECONDS)
        sock.close()

    async def close(self) -> None:
        """End the connections that QEMU has not taken, and all relays; idempotent."""
        for task in self._waiting:
            task.cancel()
        for relay in self._relays:
            relay.close()
        for name in self._names:
            with contextlib.suppress(CommandError):  # QEMU has taken it
                await self._remote.execute("closefd", {"fdname": name})
        self._waiting.clear()
        self._relays.clear()
        self._names.clear()
        if self._folder is not None:
            self._folder.remove()
            self._folder = None

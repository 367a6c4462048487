"""QEMU's NBD server on a Unix socket that only this console can open."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

from qmon.errors import CommandError, naming
from qmon.host.sockets import connect
from qmon.notation.address import UnixAddress
from qmon.remote.migration.lines.private_folder import PrivateFolder
from qmon.remote.remote import Remote

_BACKLOG = 64
NAME = "qmon-nbd"
"""Of the descriptor that QEMU gets."""


class PrivateServer:
    """The NBD server of a QEMU and the exports on it, all named ``qmon-...``."""

    def __init__(self, remote: Remote) -> None:
        self._remote = remote
        self._folder: PrivateFolder | None = None
        self._was_passed = False
        self._starting: asyncio.Future[Any] | None = None
        self.is_serving = False
        self.exports: list[str] = []

    async def start(self) -> None:
        """Start the server. Raises CommandError, also if the QEMU has one already."""
        with naming("a folder for sockets can't be made", CommandError):
            self._folder = PrivateFolder()
        try:
            address = {"addr": await self._address()}
            self._starting = asyncio.ensure_future(self._remote.execute("nbd-server-start", address))
            await asyncio.shield(self._starting)
        except asyncio.CancelledError:  # the answer may come yet
            raise
        except BaseException:
            self._starting = None
            self._remove_folder()
            raise
        self._starting = None
        self.is_serving = True

    async def _address(self) -> dict[str, Any]:
        path = self._path
        if not self._remote.can_pass_descriptors:
            return {"type": "unix", "data": {"path": path}}
        with naming(path, CommandError), socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path)
            listener.listen(_BACKLOG)
            self._was_passed = True
            await self._remote.pass_descriptor(NAME, listener.fileno())
        return {"type": "fd", "data": {"str": NAME}}

    @property
    def _path(self) -> str:
        assert self._folder is not None
        return str(self._folder.path / "nbd")

    async def export(
        self, node: str, name: str, *, writable: bool = False, allocation_depth: bool = False
    ) -> None:
        """Export a node under a name, which is its id, too. Raises CommandError."""
        arguments: dict[str, Any] = {"type": "nbd", "id": name, "node-name": node, "name": name}
        if allocation_depth:
            arguments["allocation-depth"] = True
        await self._remote.execute("block-export-add", {**arguments, "writable": writable})
        self.exports.append(name)

    async def unexport(self, name: str) -> None:
        """End an export, and the connections of its clients. Raises CommandError."""
        self.exports.remove(name)
        await self._remote.execute("block-export-del", {"id": name, "mode": "hard"})

    async def connect(self) -> socket.socket:
        """Return a connection to the server. Raises CommandError."""
        with naming("the QEMU's NBD server", CommandError):
            return await asyncio.to_thread(connect, UnixAddress(self._path))

    async def stop(self) -> None:
        """Stop the server with all exports; idempotent. Raises CommandError."""
        try:
            await self._until_started()
            if self.is_serving:
                self.is_serving = False
                self.exports.clear()
                await self._remote.execute("nbd-server-stop")
            elif self._was_passed:  # what was interrupted may have been passed, and not taken
                with contextlib.suppress(CommandError):
                    await self._remote.execute("closefd", {"fdname": NAME})
            self._was_passed = False
        finally:
            self._remove_folder()

    async def _until_started(self) -> None:
        """Know whether the server runs whose start was interrupted: another's must not be stopped."""
        starting, self._starting = self._starting, None
        if starting is not None:
            with contextlib.suppress(CommandError):
                await starting
                self.is_serving = True

    def forget(self) -> None:
        """Remove the socket of a server whose QEMU has ended."""
        self.is_serving = False
        self.exports.clear()
        self._remove_folder()

    def _remove_folder(self) -> None:
        if self._folder is not None:
            with contextlib.suppress(OSError):
                self._folder.remove()
            self._folder = None

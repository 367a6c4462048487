"""The NBD server's commands (QAPI: block-export.json)."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from typing import Any, Literal, NotRequired, TypedDict

from qmon.errors import CommandError, reason
from qmon.host.sockets import bind_failure, listen
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.machine.migration_info import qapi_address
from qmon.machine.nbd_events import NbdEvents
from qmon.nbd.export import Export
from qmon.nbd.server import ClientInfo, NbdServer
from qmon.notation.address import InetAddress, from_qapi
from qmon.notation.keyval import is_identifier
from qmon.qmp.registry import command
from qmon.qmp.schema import Uint32

_FIGURES = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes", "flush_operations")
"""What ``query-block-exports`` tells of each connection."""


class SocketData(TypedDict):
    """The ``data`` of a ``SocketAddressLegacy``."""

    host: NotRequired[str]
    port: NotRequired[str]
    path: NotRequired[str]


class SocketAddress(TypedDict):
    """An address, flat (``SocketAddress``) or with ``data`` (``SocketAddressLegacy``)."""

    type: str
    data: NotRequired[SocketData]
    host: NotRequired[str]
    port: NotRequired[str]
    path: NotRequired[str]


class ExportCommands:
    """The commands of the one NBD server and its exports."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._server: NbdServer | None = None
        self._address: dict[str, Any] = {}
        """Where the server listens, as QAPI's SocketAddress."""
        self._starting = asyncio.Lock()
        self._exports: dict[str, Export] = {}
        self._events = NbdEvents(machine, lambda: self._server)

    def exports_of(self, drive: str) -> list[str]:
        """Return the ids of a drive's exports."""
        found = self._machine.drives.get(drive)
        if found is None:
            return []
        return [id for id, export in self._exports.items() if export.disk is found.guest]

    def _running(self) -> NbdServer:
        if self._server is None:
            raise CommandError("NBD server not running")
        return self._server

    @command("nbd-server-start")
    async def start(self, addr: SocketAddress, max_connections: Uint32 | None = None) -> dict[str, Any]:
        """Start the server. An empty host is loopback: access from the network must be asked for."""
        async with self._starting:  # another monitor may be starting it too
            await self._start(addr, max_connections or 0)
        return {}

    async def _start(self, addr: SocketAddress, max_connections: int) -> None:
        if self._server is not None:
            raise CommandError("NBD server already running")
        address = from_qapi(addr)
        if isinstance(address, InetAddress) and not address.host:
            address = InetAddress("127.0.0.1", address.port)
        try:
            listener = await self._machine.blocking(listen, address)
        except OSError as error:
            raise CommandError(bind_failure(address, error)) from error
        where = qapi_address(listener)
        server = NbdServer(listener, max_connections, self._events.changed)
        try:
            server.start()
        except OSError as error:
            server.stop()
            raise CommandError(reason(error)) from error
        self._server, self._address = server, where

    @command("nbd-server-stop")
    async def stop(self) -> dict[str, Any]:
        server = self._running()
        self._server = None
        self._exports.clear()
        await self._machine.blocking(server.stop)
        return {}

    def _check_id(self, id: str) -> None:
        if not is_identifier(id):
            raise CommandError("Invalid block export id")
        if id in self._exports:
            raise CommandError(f"Block export id '{id}' is already in use")

    def _add(self, id: str, export: Export) -> None:
        self._running().add(export)
        self._exports[id] = export

    def _export(self, name: str, drive: Drive, writable: bool, description: str | None) -> Export:
        return Export(name, drive.guest, writable, description or "", self._events.failure_listener(drive))

    async def _usable(self, name: str) -> Drive:
        """Return a drive whose image is open. Raises CommandError."""
        await self._machine.wake(self._machine.drive(name))
        drive = self._machine.drive(name)  # again, because other commands may have run in between
        self._machine.check_not_changing(drive)
        return drive

    @command("nbd-server-add")
    async def add(
        self,
        device: str,
        name: str | None = None,
        description: str | None = None,
        writable: bool | None = None,
    ) -> dict[str, Any]:
        """Export a drive. The export of a read-only drive is read-only even with ``writable``, as in QEMU."""
        drive = await self._usable(device)
        export_name = device if name is None else name
        self._check_id(export_name)
        writable = bool(writable) and not drive.read_only
        self._add(export_name, self._export(export_name, drive, writable, description))
        return {}

    @command("block-export-add")
    async def export_add(
        self,
        type: Literal["nbd"],
        id: str,
        node_name: str,
        name: str | None = None,
        description: str | None = None,
        writable: bool | None = None,
    ) -> dict[str, Any]:
        self._check_id(id)
        drive = await self._usable(node_name)
        if writable and drive.read_only:
            raise CommandError("Cannot export read-only node as writable")
        export_name = node_name if name is None else name
        self._add(id, self._export(export_name, drive, bool(writable), description))
        return {}

    async def _remove(self, id: str, mode: str | None) -> None:
        server, export = self._running(), self._exports[id]
        await self._machine.blocking(server.remove, export.name, force=mode == "hard")
        if self._exports.get(id) is export:  # the server may have been stopped in between
            del self._exports[id]

    @command("nbd-server-remove")
    async def remove(self, name: str, mode: Literal["safe", "hard"] | None = None) -> dict[str, Any]:
        id = next((id for id, export in self._exports.items() if export.name == name), None)
        if id is None:
            raise CommandError(f"Export '{name}' is not found")
        await self._remove(id, mode)
        return {}

    @command("block-export-del")
    async def export_del(self, id: str, mode: Literal["safe", "hard"] | None = None) -> dict[str, Any]:
        if id not in self._exports:
            raise CommandError(f"Export '{id}' is not found")
        await self._remove(id, mode)
        return {}

    @command("x-qmon-query-nbd-server")
    async def query_server(self) -> dict[str, Any]:
        """Return whether the NBD server is running, and the address on which it listens."""
        return {"running": False} if self._server is None else {"running": True, "address": self._address}

    @command("query-block-exports")
    async def query(self) -> list[dict[str, Any]]:
        server = self._server
        if server is None:
            return []
        names = {id(drive.guest): drive.shown_node_name for drive in self._machine.drives.values()}
        clients: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for client in server.client_list():
            clients[client.export].append(_connection(client))
        return [
            {
                "id": export_id,
                "type": "nbd",
                "node-name": names[id(export.disk)],
                "shutting-down": False,
                "x-qmon-name": export.name,
                "x-qmon-writable": export.writable,
                "x-qmon-clients": len(clients[export.name]),
                "x-qmon-connections": clients[export.name],
                **({"x-qmon-moved": True} if export.disk.gate.is_shut else {}),
            }
            for export_id, export in self._exports.items()
        ]

    @property
    def is_serving(self) -> bool:
        """Whether the NBD server runs."""
        return self._server is not None

    def clients(self) -> dict[str, int]:
        """Return by name of each export that has clients how many there are."""
        if self._server is None:
            return {}
        counts = {export.name: self._server.clients(export.name) for export in self._exports.values()}
        return {name: count for name, count in counts.items() if count}

    def drop_clients(self) -> None:
        """Disconnect the clients of all exports, because their disks have moved. Does not wait."""
        if self._server is not None:
            for export in self._exports.values():
                self._server.drop(export.name)

    async def remove_drive(self, drive: str) -> None:
        """Remove all exports of a drive, even with clients, before the drive is removed."""
        for id in self.exports_of(drive):
            await self._remove(id, "hard")

    async def close(self) -> None:
        """Stop the server, if it runs."""
        if self._server is not None:
            await self.stop()


def _connection(client: ClientInfo) -> dict[str, Any]:
    """Return what ``x-qmon-connections`` says about a client."""
    figures = {name: getattr(client.counters, name) for name in _FIGURES}
    return {"address": client.address, "seconds": int(time.monotonic() - client.connected), **figures}

"""The NBD server's commands (QAPI: block-export.json)."""

from __future__ import annotations

import asyncio
import time
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from qmon.errors import CommandError, reason
from qmon.host.sockets import bind_failure, listen
from qmon.machine.credentials import Credentials
from qmon.machine.drive import Drive
from qmon.machine.exported import Exported, check_export, disk_of
from qmon.machine.exported_bitmaps import BitmapName, exported_bitmaps
from qmon.machine.machine import Machine
from qmon.machine.migration_info import qapi_address
from qmon.machine.nbd_events import NbdEvents
from qmon.machine.object_types import IoThread
from qmon.nbd.contexts import ALLOCATION, Depth, Dirty
from qmon.nbd.export import Export
from qmon.nbd.server import ClientInfo, NbdServer
from qmon.notation.address import InetAddress, from_qapi
from qmon.notation.keyval import is_identifier
from qmon.qmp.registry import command

_FIGURES = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes", "flush_operations")
"""What ``query-block-exports`` tells of each connection."""

DELETED = "BLOCK_EXPORT_DELETED"

_CLOSING_SECONDS = 2.0
"""How long a command waits for the clients of an export that it removes."""


@dataclass(frozen=True, slots=True)
class _Form:
    """How a node is exported."""

    name: str
    description: str | None
    writable: bool
    writethrough: bool = False
    bitmaps: Sequence[BitmapName] = ()
    allocation_depth: bool = False


class ExportCommands:
    """The commands of the one NBD server and its exports."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._server: NbdServer | None = None
        self._address: dict[str, Any] = {}
        """Where the server listens, as QAPI's SocketAddress."""
        self._starting = asyncio.Lock()
        self._exports: dict[str, Exported] = {}
        """By id, the oldest first. An export stays here until its last client has gone."""
        self._closing: set[asyncio.Future[None]] = set()
        self._events = NbdEvents(machine, lambda: self._server)

    def exports_of(self, drive: str) -> list[str]:
        """Return the ids of a drive's exports, including those of the nodes below it."""
        found = self._machine.drives.get(drive)
        if found is None:
            return []
        return [id for id, exported in self._exports.items() if exported.drive is found]

    def is_written(self, drive: Drive) -> bool:
        """Whether clients of an export may write to a drive."""
        return any(each.export.writable for each in self._exports.values() if each.drive is drive)

    def exports_of_node(self, name: str) -> list[str]:
        """Return the ids of a node's exports."""
        return [id for id, exported in self._exports.items() if exported.node_name == name]

    def _running(self) -> NbdServer:
        if self._server is None:
            raise CommandError("NBD server not running")
        return self._server

    @command("nbd-server-start")
    async def start(
        self,
        addr: dict[str, Any],
        tls_creds: str | None = None,
        tls_authz: str | None = None,
        max_connections: int | None = None,
    ) -> dict[str, Any]:
        """Start the server. An empty host is loopback: access from the network must be asked for."""
        async with self._starting:  # another monitor may be starting it too
            await self._start(addr, max_connections or 0, tls_creds)
        return {}

    async def _start(self, addr: dict[str, Any], max_connections: int, tls_creds: str | None) -> None:
        if self._server is not None:
            raise CommandError("NBD server already running")
        if tls_creds is not None:
            self._refuse_tls(tls_creds)
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

    def _refuse_tls(self, creds: str) -> None:
        """Refuse TLS, with QEMU's message if the object is missing or unsuitable."""
        found = self._machine.objects.get(creds)
        if found is None:
            raise CommandError(f"No TLS credentials with id '{creds}'")
        if not isinstance(found, Credentials):
            raise CommandError(f"Object with id '{creds}' is not TLS credentials")
        raise CommandError("the NBD server does not support TLS: leave out 'tls-creds', or use an SSH tunnel")

    @command("nbd-server-stop")
    async def stop(self) -> dict[str, Any]:
        server = self._running()
        self._server = None
        await self._machine.blocking(server.stop)
        for exported in list(self._exports.values()):
            if exported.server is server:
                self._forget(exported)
        return {}

    def _check_id(self, id: str) -> None:
        if not is_identifier(id):
            raise CommandError("Invalid block export id")
        if id in self._exports:
            raise CommandError(f"Block export id '{id}' is already in use")

    def _add(self, id: str, drive: Drive, node: str | None, form: _Form) -> None:
        """Export a drive's topmost node, or with ``node`` the node of that name."""
        server = self._running()
        disk = disk_of(drive, node, writethrough=form.writethrough)
        listener = self._events.failure_listener(drive)
        export = Export(form.name, disk, form.writable, form.description or "", listener)
        server.check(export)
        bitmaps = exported_bitmaps(self._machine, drive, node, form.bitmaps, writable=form.writable)
        depth = (Depth(),) if form.allocation_depth else ()
        export = replace(export, contexts=(ALLOCATION, *depth, *map(Dirty, bitmaps)))
        server.add(export)
        for bitmap in bitmaps:
            bitmap.busy = True
        self._exports[id] = Exported(id, export, drive, node, server, bitmaps)

    def _forget(self, exported: Exported) -> None:
        """Forget an export that nobody uses any more."""
        if self._exports.get(exported.id) is exported:
            del self._exports[exported.id]
            for bitmap in exported.bitmaps:
                bitmap.busy = False
            self._machine.registry.events.emit(DELETED, {"id": exported.id})

    async def _usable(self, drive: Drive) -> None:
        """Open the image of a drive that is to be exported. Raises CommandError."""
        machine = self._machine
        await machine.wake(drive)
        if machine.drives.get(drive.id) is not drive:  # other commands may have run in between
            raise CommandError(f"Device '{drive.id}' was changed by another command")
        machine.check_not_changing(drive)

    @command("nbd-server-add")
    async def add(
        self,
        device: str,
        name: str | None = None,
        description: str | None = None,
        writable: bool | None = None,
        bitmap: str | None = None,
    ) -> dict[str, Any]:
        """Export a drive or a node. As in QEMU, ``writable`` has no effect on one that is read-only."""
        drive, node = self._machine.find_node(device, device)
        await self._usable(drive)
        export_name = device if name is None else name
        self._check_id(export_name)
        check_export(drive, node, writable=bool(writable))
        writable = bool(writable) and not drive.is_read_only(node)
        bitmaps = () if bitmap is None else (bitmap,)
        self._add(export_name, drive, node, _Form(export_name, description, writable, bitmaps=bitmaps))
        return {}

    @command("block-export-add")
    async def export_add(
        self,
        type: str,
        id: str,
        node_name: str,
        name: str | None = None,
        description: str | None = None,
        writable: bool | None = None,
        writethrough: bool | None = None,
        iothread: str | None = None,
        fixed_iothread: bool | None = None,
        bitmaps: Sequence[BitmapName] = (),
        allocation_depth: bool = False,
    ) -> dict[str, Any]:
        """Export a node. Each client has a thread of its own, so an iothread has no effect."""
        self._check_id(id)
        drive, node = self._machine.find_node(None, node_name)
        if iothread is not None and not isinstance(self._machine.objects.get(iothread), IoThread):
            raise CommandError(f'iothread "{iothread}" not found')
        await self._usable(drive)
        check_export(drive, node, writable=bool(writable))
        if writable and drive.is_read_only(node):
            raise CommandError("Cannot export read-only node as writable")
        export_name = node_name if name is None else name
        form = _Form(export_name, description, bool(writable), bool(writethrough), bitmaps, allocation_depth)
        self._add(id, drive, node, form)
        return {}

    async def _remove(self, id: str, mode: str | None) -> None:
        """Remove an export. With the mode ``hard`` it stays until its clients have gone, if they are slow."""
        exported = self._exports[id]
        if exported.is_closing:
            if mode == "hard":
                return
            raise CommandError(f"export '{exported.export.name}' still in use")
        closing = asyncio.ensure_future(self._close(exported, force=mode == "hard"))
        self._closing.add(closing)
        closing.add_done_callback(self._closing.discard)
        await asyncio.wait((closing,), timeout=_CLOSING_SECONDS if mode == "hard" else None)
        if closing.done():
            closing.result()

    async def _close(self, exported: Exported, *, force: bool) -> None:
        exported.is_closing = force
        server, name = exported.server, exported.export.name
        await self._machine.blocking(server.remove, name, force=force)
        self._forget(exported)  # unless the server was stopped in between

    @command("nbd-server-remove")
    async def remove(self, name: str, mode: str | None = None) -> dict[str, Any]:
        """Remove an export by its id, which ``nbd-server-add`` makes of its name."""
        if name not in self._exports:
            raise CommandError(f"Export '{name}' is not found")
        await self._remove(name, mode)
        return {}

    @command("block-export-del")
    async def export_del(self, id: str, mode: str | None = None) -> dict[str, Any]:
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
        """Return the exports, the newest first."""
        server = self._server
        clients: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for client in () if server is None else server.client_list():
            clients[client.export].append(_connection(client))
        return [
            {
                "id": exported.id,
                "type": "nbd",
                "node-name": exported.node_name,
                "shutting-down": exported.is_closing,
                "x-qmon-name": exported.export.name,
                "x-qmon-writable": exported.export.writable,
                "x-qmon-clients": len(clients[exported.export.name]),
                "x-qmon-connections": clients[exported.export.name],
                **({"x-qmon-moved": True} if exported.drive.gate.is_shut else {}),
            }
            for exported in reversed(self._exports.values())
        ]

    @property
    def is_serving(self) -> bool:
        """Whether the NBD server runs."""
        return self._server is not None

    def clients(self) -> dict[str, int]:
        """Return by name of each export that has clients how many there are."""
        if self._server is None:
            return {}
        counts = {name: self._server.clients(name) for name in self._server.exports()}
        return {name: count for name, count in counts.items() if count}

    def drop_clients(self) -> None:
        """Disconnect the clients of all exports, because their disks have moved. Does not wait."""
        if self._server is not None:
            for name in self._server.exports():
                self._server.drop(name)

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

"""The NBD server's commands (QAPI: block-export.json)."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from qmon.errors import CommandError
from qmon.machine.exported import check_export
from qmon.machine.exported_bitmaps import BitmapName
from qmon.machine.exports import Exports, Form
from qmon.machine.machine import Machine
from qmon.machine.object_types import IoThread
from qmon.nbd.server import ClientInfo
from qmon.qmp.registry import command

_FIGURES = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes", "flush_operations")
"""What ``query-block-exports`` tells of each connection."""


class ExportCommands:
    """For a machine and what it exports."""

    def __init__(self, machine: Machine, exports: Exports) -> None:
        self._machine = machine
        self._exports = exports

    @command("nbd-server-start")
    async def start(
        self,
        addr: dict[str, Any],
        tls_creds: str | None = None,
        tls_authz: str | None = None,
        max_connections: int | None = None,
    ) -> dict[str, Any]:
        """Start the server. An empty host is loopback: access from the network must be asked for."""
        await self._exports.start(addr, max_connections or 0, tls_creds, tls_authz)
        return {}

    @command("nbd-server-stop")
    async def stop(self) -> dict[str, Any]:
        await self._exports.stop()
        return {}

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
        drive, node = self._machine.disks.find_node(device, device)
        await self._exports.make_usable(drive)
        export_name = device if name is None else name
        self._exports.check_id(export_name)
        check_export(drive, node, writable=bool(writable))
        writable = bool(writable) and not drive.names.is_read_only(node)
        bitmaps = () if bitmap is None else (bitmap,)
        self._exports.add(export_name, drive, node, Form(export_name, description, writable, bitmaps=bitmaps))
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
        self._exports.check_id(id)
        drive, node = self._machine.disks.find_node(None, node_name)
        if iothread is not None and not isinstance(self._machine.objects.get(iothread), IoThread):
            raise CommandError(f'iothread "{iothread}" not found')
        await self._exports.make_usable(drive)
        check_export(drive, node, writable=bool(writable))
        if writable and drive.names.is_read_only(node):
            raise CommandError("Cannot export read-only node as writable")
        export_name = node_name if name is None else name
        form = Form(export_name, description, bool(writable), bool(writethrough), bitmaps, allocation_depth)
        self._exports.add(id, drive, node, form)
        return {}

    @command("nbd-server-remove")
    async def remove(self, name: str, mode: str | None = None) -> dict[str, Any]:
        """Remove an export by its id, which ``nbd-server-add`` makes of its name."""
        await self._exports.remove(name, mode)
        return {}

    @command("block-export-del")
    async def export_del(self, id: str, mode: str | None = None) -> dict[str, Any]:
        await self._exports.remove(id, mode)
        return {}

    @command("x-qmon-query-nbd-server")
    async def query_server(self) -> dict[str, Any]:
        """Return whether the NBD server is running, and the address on which it listens."""
        address = self._exports.address
        return {"running": False} if address is None else {"running": True, "address": address}

    @command("query-block-exports")
    async def query(self) -> list[dict[str, Any]]:
        """Return the exports, the newest first."""
        clients: defaultdict[str, list[dict[str, Any]]] = defaultdict(list)
        for client in self._exports.client_list():
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
                **({"x-qmon-moved": True} if exported.drive.gate.has_moved else {}),
            }
            for exported in self._exports.newest_first()
        ]


def _connection(client: ClientInfo) -> dict[str, Any]:
    """Return what ``x-qmon-connections`` says about a client."""
    figures = {name: getattr(client.counters, name) for name in _FIGURES}
    return {"address": client.address, "seconds": int(time.monotonic() - client.connected), **figures}

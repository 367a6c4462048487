"""The NBD server of the machine, what it exports, and its clients."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from qmon.errors import CommandError, reason
from qmon.machine.authorization import server_authorization
from qmon.machine.credentials import find_credentials
from qmon.machine.drive import Drive
from qmon.machine.exported import Exported, disk_of
from qmon.machine.exported_bitmaps import BitmapName, exported_bitmaps
from qmon.machine.listening import TakeDescriptor, open_listener, qapi_address
from qmon.machine.machine import Machine
from qmon.machine.media import wake
from qmon.machine.nbd_events import NbdEvents
from qmon.nbd.contexts import ALLOCATION, Depth, Dirty
from qmon.nbd.export import Export
from qmon.nbd.security import Security
from qmon.nbd.server import ClientInfo, NbdServer
from qmon.notation.keyval import is_identifier

DELETED = "BLOCK_EXPORT_DELETED"

_CLOSING_SECONDS = 2.0
"""How long a command waits for the clients of an export that it removes."""


@dataclass(frozen=True, slots=True)
class Form:
    """How a node is exported. ``name`` is the one that clients ask for."""

    name: str
    description: str | None
    writable: bool
    writethrough: bool = False
    bitmaps: Sequence[BitmapName] = ()
    allocation_depth: bool = False


class Exports:
    """At most one server at a time. For the loop, except where it says otherwise."""

    def __init__(self, machine: Machine, take_descriptor: TakeDescriptor) -> None:
        self._machine = machine
        self._take_descriptor = take_descriptor
        self._server: NbdServer | None = None
        self._address: dict[str, Any] = {}
        self._starting = asyncio.Lock()
        self._exports: dict[str, Exported] = {}
        """By id, the oldest first. An export stays here until its last client has gone."""
        self._closing: set[asyncio.Future[None]] = set()
        self._events = NbdEvents(machine, lambda: self._server)

    # The server.

    @property
    def is_serving(self) -> bool:
        """Whether the NBD server runs."""
        return self._server is not None

    @property
    def address(self) -> dict[str, Any] | None:
        """Where the server listens, as QAPI's SocketAddress; None if it does not run."""
        return self._address if self.is_serving else None

    async def start(
        self, addr: dict[str, Any], max_connections: int, creds: str | None, authz: str | None
    ) -> None:
        """Start the server. Raises QmonError."""
        async with self._starting:  # another monitor may be starting it too
            await self._start(addr, max_connections, creds, authz)

    async def _start(
        self, addr: dict[str, Any], max_connections: int, creds: str | None, authz: str | None
    ) -> None:
        if self._server is not None:
            raise CommandError("NBD server already running")
        security = self._security(creds, authz)
        listener = await open_listener(
            self._machine, addr, self._take_descriptor, has_tls=security is not None
        )
        where = qapi_address(listener)
        server = NbdServer(listener, max_connections, self._events.changed, security=security)
        try:
            server.start()
        except OSError as error:
            server.stop()
            raise CommandError(reason(error)) from error
        self._server, self._address = server, where

    def _security(self, creds: str | None, authz: str | None) -> Security | None:
        """Return what the server demands of its clients. Raises CommandError."""
        if creds is None:
            if authz is not None:
                raise CommandError("tls-authz has no effect without tls-creds: give both")
            return None
        tls = find_credentials(self._machine.objects, creds, is_server=True)
        return Security(tls, server_authorization(self._machine.objects, tls, authz))

    def _running(self) -> NbdServer:
        if self._server is None:
            raise CommandError("NBD server not running")
        return self._server

    async def stop(self) -> None:
        """Stop the server, which ends its exports. Raises CommandError if none runs."""
        server = self._running()
        self._server = None
        await self._machine.blocking(server.stop)
        for exported in list(self._exports.values()):
            if exported.server is server:
                self._forget(exported)

    async def close(self) -> None:
        """Stop the server, if it runs."""
        if self._server is not None:
            await self.stop()

    # The exports.

    def newest_first(self) -> Iterator[Exported]:
        return reversed(self._exports.values())

    def exports_of(self, drive: str) -> list[str]:
        """Return the ids of a drive's exports, including those of the nodes below it."""
        found = self._machine.drives.get(drive)
        if found is None:
            return []
        return [id for id, exported in self._exports.items() if exported.drive is found]

    def exports_of_node(self, name: str) -> list[str]:
        """Return the ids of a node's exports."""
        return [id for id, exported in self._exports.items() if exported.node_name == name]

    def is_written(self, drive: Drive) -> bool:
        """Whether clients of an export may write to a drive."""
        return any(each.export.writable for each in self._exports.values() if each.drive is drive)

    def check_id(self, id: str) -> None:
        """Raises CommandError if a new export can't have this id."""
        if not is_identifier(id):
            raise CommandError("Invalid block export id")
        if id in self._exports:
            raise CommandError(f"Block export id '{id}' is already in use")

    async def make_usable(self, drive: Drive) -> None:
        """Open the image of a drive that is to be exported. Raises CommandError."""
        machine = self._machine
        await wake(machine, drive)
        if machine.drives.get(drive.id) is not drive:  # other commands may have run in between
            raise CommandError(f"Device '{drive.id}' was changed by another command")
        machine.use.check_not_changing(drive)

    def add(self, id: str, drive: Drive, node: str | None, form: Form) -> None:
        """Export a drive's topmost node, or with ``node`` the node of that name. Raises CommandError."""
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

    async def remove(self, id: str, mode: str | None) -> None:
        """Remove an export. With the mode ``hard`` it stays until its clients have gone, if they are slow.

        Raises CommandError.
        """
        exported = self._exports.get(id)
        if exported is None:
            raise CommandError(f"Export '{id}' is not found")
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

    def _forget(self, exported: Exported) -> None:
        """Forget an export. It has no users left."""
        if self._exports.get(exported.id) is exported:
            del self._exports[exported.id]
            for bitmap in exported.bitmaps:
                bitmap.busy = False
            self._machine.registry.events.emit(DELETED, {"id": exported.id})

    async def remove_drive(self, drive: str) -> None:
        """Remove all exports of a drive, even with clients, before the drive is removed."""
        for id in self.exports_of(drive):
            await self.remove(id, "hard")

    # The clients.

    def client_list(self) -> list[ClientInfo]:
        """Return what is known of each client."""
        return [] if self._server is None else self._server.client_list()

    def clients(self) -> dict[str, int]:
        """Return by name of each export that has clients how many there are."""
        if self._server is None:
            return {}
        counts = {name: self._server.clients(name) for name in self._server.exports()}
        return {name: count for name, count in counts.items() if count}

    def count_clients(self, *, moved: bool = False) -> int:
        """Return how many clients there are, or those of drives that have moved. For any thread."""
        count = 0
        for exported in list(self._exports.values()):
            if exported.drive.gate.has_moved or not moved:
                with contextlib.suppress(CommandError):  # it was removed at this moment
                    count += exported.server.clients(exported.export.name)
        return count

    def watch_clients(self, watcher: Callable[[], None]) -> None:
        """Have ``watcher`` called, on the loop, when clients may have come or gone."""
        self._events.after_look = watcher

    def drop_clients(self) -> None:
        """Disconnect the clients of the drives that have moved. Does not wait."""
        for exported in list(self._exports.values()):
            if exported.drive.gate.has_moved:
                with contextlib.suppress(CommandError):  # it was removed at this moment
                    exported.server.drop(exported.export.name)

    def cut_off_clients(self) -> None:
        """Disconnect the clients of the drives that have moved, and wait until they have gone. Blocks."""
        for exported in list(self._exports.values()):
            if exported.drive.gate.has_moved:
                with contextlib.suppress(CommandError):  # it was removed at this moment
                    exported.server.cut_off(exported.export.name)

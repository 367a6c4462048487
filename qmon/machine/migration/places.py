"""Where a migration goes to or comes from: addresses, their TLS, and descriptors or files of this process."""

from __future__ import annotations

import fcntl
import os
import socket
import threading
from collections.abc import Callable
from dataclasses import replace

from qmon.errors import CommandError
from qmon.host.pipe_line import PipeLine
from qmon.host.sockets import bind_failure
from qmon.machine.machine import Machine
from qmon.machine.migration.security import MigrationSecurity
from qmon.machine.output_file import open_output_file
from qmon.migration.journal import Entry
from qmon.migration.source.opening import Route
from qmon.migration.wire.lines import open_incoming
from qmon.migration.wire.transport import FdPlace, FilePlace, Place, Transport, parse_uri
from qmon.notation.address import InetAddress, UnixAddress

FIRST_OTHER = 3
"""The first descriptor that is no standard stream."""


class Handed:
    """A descriptor for one connection. Its taker owns it."""

    def __init__(self, shown: str, descriptor: int) -> None:
        self._shown = shown
        self._descriptor: int | None = descriptor
        self._lock = threading.Lock()

    def take(self) -> int:
        """Return the descriptor. Raises OSError at a second call."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is None:
            raise OSError("the descriptor has served its one connection")
        return descriptor

    def __del__(self) -> None:
        """Close it if the migration has failed before it was taken."""
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)


class Places:
    """The addresses of migrations, with the TLS of what connects there."""

    def __init__(
        self, machine: Machine, security: MigrationSecurity, take_named: Callable[[str], int]
    ) -> None:
        """``take_named`` returns a descriptor that getfd has stored."""
        self._machine = machine
        self._security = security
        self._take_named = take_named

    async def check_destination(self, place: Place, *, is_secured: bool = False) -> None:
        """Raises QmonError if the TLS of a migration to a place is not possible, or is required.

        ``is_secured``: the migration goes on there, and has begun over TLS.
        """
        has_tls = self._security.of_source(place) is not None
        if isinstance(place, InetAddress | UnixAddress):
            await self._machine.blocking(
                self._machine.exposure.check_connecting, place, "the migration", has_tls=has_tls
            )
        if is_secured:
            self._security.check_kept(place)

    def route(self, transport: Transport) -> Route:
        """Return the route of an outgoing migration, which has taken its descriptor. Raises CommandError."""
        return self._route(self._with_descriptor(transport), has_tls=self._security.has_tls)

    def route_of(self, entry: Entry) -> Route:
        """Return the route of an outgoing migration that a record tells of. It has no descriptor."""
        return self._route(parse_uri(entry.peer), has_tls=entry.tls)

    def _route(self, transport: Transport, *, has_tls: bool) -> Route:
        demand = self._security.demand_of_source(transport.place, has_tls=has_tls)
        return Route(transport, demand, has_tls)

    async def listen(self, address: InetAddress | UnixAddress) -> socket.socket:
        """Return a socket that listens for an incoming migration. Raises CommandError."""
        has_tls = self._security.of_destination() is not None
        try:
            return await self._machine.blocking(
                self._machine.exposure.listen, address, "the incoming migration", has_tls=has_tls
            )
        except OSError as error:
            raise CommandError(bind_failure(address, error)) from error

    def _with_descriptor(self, transport: Transport) -> Transport:
        """Return a transport that can be opened: with the descriptor of fd:, with the opening of file:.

        Raises CommandError if there is no such descriptor.
        """
        match transport.place:
            case FdPlace(name=name):
                taken = inherited(int(name)) if name.isdecimal() else self._take_named(name)
                return replace(transport, descriptor=Handed(transport.uri, taken).take)
            case FilePlace(path=path):
                images = self._machine.disks.image_files()
                return replace(transport, descriptor=lambda: open_output_file(path, images))
        return transport

    async def incoming(self, transport: Transport) -> socket.socket | PipeLine:
        """Return what an incoming migration is read from. Raises QmonError."""
        self._security.of_destination()  # its credentials are missing now, and not when the source comes
        self._security.check_place(transport.place)
        transport = self._with_descriptor(transport)
        return await self._machine.blocking(open_incoming, transport)


def inherited(number: int) -> int:
    """Return a duplicate of an inherited descriptor, which is closed. Raises CommandError."""
    missing = f"File descriptor named '{number}' has not been found"
    if number < FIRST_OTHER:
        raise CommandError(f"fd:{number} is a standard stream: pass another descriptor")
    try:
        if fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC:
            raise CommandError(missing)  # one of this process's own
        descriptor = fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, FIRST_OTHER)
    except (OSError, OverflowError) as error:
        raise CommandError(missing) from error
    os.close(number)
    return descriptor

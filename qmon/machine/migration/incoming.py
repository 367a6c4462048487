"""The incoming migration of the machine: where it is awaited, and how the machine starts after it."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.machine.listening import qapi_address
from qmon.machine.migration.bitmaps import MAPPING, BitmapRoom
from qmon.machine.migration.info import describe_incoming
from qmon.machine.migration.means import Means
from qmon.machine.runstate import RunState
from qmon.migration.capabilities import BITMAPS, FORWARD, RECOVER
from qmon.migration.destination.incoming import Incoming
from qmon.migration.destination.inventory import Inventory
from qmon.migration.destination.options import Options
from qmon.migration.journal import Entry
from qmon.migration.phases import Phase, Stand
from qmon.migration.wire.lines import is_listening
from qmon.migration.wire.transport import Place, Transport, parse_uri
from qmon.notation.address import InetAddress, UnixAddress

log = logging.getLogger("qmon.machine")

RESUME_THERE = (
    "the images here are partial and wait for 'migrate -r URI' at the source; 'migrate_recover URI' listens"
    " at another address, migrate_cancel gives the images up"
)


@dataclass(frozen=True, slots=True)
class Entrance:
    """Where a migration is awaited. ``info`` is what a MigrationInfo says of it."""

    place: Place
    is_read: bool
    """Whether it is read to its end, and not listened at."""
    info: dict[str, Any]


class IncomingMigration:
    """The current or the last one. For the loop, except where it says otherwise."""

    def __init__(self, means: Means, *, may_come_in: bool) -> None:
        """``may_come_in`` says whether -incoming was given."""
        self._machine = means.machine
        self._settings = means.settings
        self._security = means.security
        self._places = means.places
        self._clients = means.clients
        self._journal = means.journal
        self._patience = means.patience
        self._tell = means.tell
        self._may_come_in = may_come_in
        self.receiver: Incoming | None = None
        """The migration, or what waits for one."""
        self.phase = Phase.NONE
        """The phase that the loop has been told; it changes together with the machine's run state."""
        self._entrance: Entrance | None = None
        self._is_fresh = False
        """Whether the reading has just begun, so that what failed before is over."""
        self._resume = False
        """Whether the machine runs after it."""

    @property
    def is_awaited(self) -> bool:
        """Whether the machine waits for a migration somewhere."""
        return self._entrance is not None and self._machine.state is RunState.INMIGRATE

    @property
    def is_known(self) -> bool:
        """Whether there is or was one."""
        return self.receiver is not None and self.phase is not Phase.NONE

    @property
    def is_under_way(self) -> bool:
        found = Phase.NONE if self.receiver is None else self.receiver.phase
        return self.phase.is_under_way or found.is_under_way

    async def begin(self, uri: str) -> None:
        """Await the first migration, or another after one that has failed. Raises CommandError."""
        if not self._may_come_in:
            raise CommandError("'-incoming' was not specified on the command line")
        again = self.receiver is not None and self.receiver.phase is Phase.FAILED
        if self._machine.state is not RunState.INMIGRATE or (self._entrance is not None and not again):
            raise CommandError("The incoming migration has already been started")
        await self._unlisten()
        await self.start(uri)

    async def recover(self, uri: str) -> None:
        """Await the source of a paused migration at an address. Raises CommandError."""
        if self.receiver is None or not self.receiver.can_recover:
            raise CommandError("Migrate recover can only be run when postcopy is paused.")
        place = parse_uri(uri).place
        is_there = self._entrance is not None and place == self._entrance.place
        if is_there and isinstance(place, InetAddress | UnixAddress):
            return
        await self._unlisten()
        await self.start(uri)

    async def start(self, uri: str) -> None:
        """Listen for a migration, or read it. Raises CommandError."""
        transport = parse_uri(uri)
        self._settings.check_incoming()
        address = transport.place
        if isinstance(address, InetAddress | UnixAddress):
            self._listen(await self._places.listen(address), address)
        else:
            await self._read(transport)

    def _listen(self, listener: socket.socket, place: Place) -> None:
        where = qapi_address(listener)
        try:
            self._receiver().listen(listener)
        except OSError as error:
            raise CommandError(reason(error)) from error
        self._entrance = Entrance(place, False, {"socket-address": [where]})
        log.info("waiting for a migration on %s", place)

    async def _read(self, transport: Transport) -> None:
        line = await self._places.incoming(transport)
        if isinstance(line, socket.socket) and is_listening(line):
            self._listen(line, transport.place)
            return
        try:
            self._receiver().receive(line, transport.uri)
        except OSError as error:
            raise CommandError(reason(error)) from error
        self._entrance = Entrance(transport.place, True, {"x-qmon-reads": transport.uri})
        self._is_fresh = True
        log.info("reading a migration from %s", transport.uri)

    def _receiver(self) -> Incoming:
        if self.receiver is None:
            self.receiver = self._make()
        return self.receiver

    def _make(self, entry: Entry | None = None) -> Incoming:
        machine, settings = self._machine, self._settings

        def drives() -> list[Drive]:
            return list(machine.drives.values())

        return Incoming(
            Inventory(drives, machine.disks.empty_devices, machine.known_uuid),
            Options(
                self._patience,
                demand=self._security.of_destination,
                multifd=lambda: settings.capabilities["multifd"],
                may_recover=lambda: settings.capabilities[RECOVER],
                takes_requests=lambda: settings.capabilities[FORWARD],
                bitmaps=BitmapRoom(
                    drives,
                    lambda: settings.parameters[MAPPING],
                    lambda: settings.capabilities[BITMAPS],
                ),
            ),
            self._journal,
            start_machine=self._start_machine,
            on_phase=lambda phase: machine.post(lambda: self._changed(phase)),
            on_forwarded=self._clients.changed,
            entry=entry,
        )

    async def stand_by(self, entry: Entry) -> None:
        """Continue a migration from its record after a restart. The drives are added but inactive.

        Raises QmonError if the images of a paused migration can't be locked.
        """
        self._may_come_in = True
        self.receiver = self._make(entry)
        self.phase = self.receiver.phase
        if entry.stand is Stand.PREPARED:
            log.warning(
                "migration %s has copied the disks and waits for its source to release them; if the"
                " source does not run, migrate_resolve keep runs the machine here",
                entry.id,
            )
        if entry.stand is Stand.PARTIAL:
            await self._machine.blocking(self.receiver.hold)
            log.warning("migration %s is paused: %s", entry.id, RESUME_THERE)

    def _start_machine(self, running: bool) -> None:
        """Open the gates when the source has released the disks. Runs on a data thread."""
        self._resume = running and self._machine.autostart
        if self._resume:
            self._machine.open_gates()

    def _changed(self, phase: Phase) -> None:
        """Follow a change of the receiver's phase."""
        self.phase = phase
        self._is_fresh = False
        if phase is Phase.COMPLETED and self._machine.state is RunState.INMIGRATE:
            self._machine.set_state(RunState.RUNNING if self._resume else RunState.PAUSED)
        self._tell(phase)

    def describe(self) -> dict[str, Any]:
        """Return its MigrationInfo, {} if there was none."""
        if self.receiver is None or not self.is_known or self._is_fresh:
            return {}
        return describe_incoming(self.phase, self.receiver)

    def describe_entrance(self) -> dict[str, Any]:
        """Return the part of MigrationInfo that says where a migration is awaited."""
        entrance = self._entrance
        if entrance is None or not self.is_awaited:
            return {}
        is_over = entrance.is_read and self.phase is Phase.FAILED and not self._is_fresh
        return {} if is_over else entrance.info

    async def close(self) -> None:
        """End it: before GO it is cancelled, after GO the source completes it."""
        if self.receiver is not None:
            await self._machine.blocking(self.receiver.stop)
            self._remove_socket()

    async def _unlisten(self) -> None:
        if self.receiver is not None and self._entrance is not None:
            await self._machine.blocking(self.receiver.unlisten)
            self._remove_socket()
            self._entrance = None

    def _remove_socket(self) -> None:
        """Remove the path of a Unix socket that is not listened on any more."""
        if self._entrance is not None and isinstance(self._entrance.place, UnixAddress):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._entrance.place.path)

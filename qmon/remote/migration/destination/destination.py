"""The destination as its console knows it: it listens, and takes one guest."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Any

from qmon.errors import CommandError
from qmon.host.exposure import Exposure
from qmon.notation.address import Address
from qmon.remote.migration.destination.actions import Actions
from qmon.remote.migration.destination.connections import Connections
from qmon.remote.migration.destination.incoming import Incoming
from qmon.remote.migration.destination.requests import Requests
from qmon.remote.migration.destination.steps import Steps
from qmon.remote.migration.destination.watch import Watch
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.recovery.record import Record, write_record
from qmon.remote.migration.recovery.resume import resumed_destination
from qmon.remote.migration.side import Emit
from qmon.remote.migration.states import Action, Event
from qmon.remote.migration.wire.door import Door
from qmon.remote.remote import Remote
from qmon.remote.secured import Secure

HEARD_SECONDS = 5.0
"""How long a console that leaves waits for a source to say that it knows that the guest runs here."""


class Destination:
    """Takes one migration after the other, until one has arrived, or the QEMU is used up."""

    def __init__(
        self,
        remote: Remote,
        address: Address,
        emit: Emit,
        exposure: Exposure,
        secure: Secure | None = None,
    ) -> None:
        """``secure`` begins TLS on each connection that comes."""
        self._incoming = Incoming(remote, emit)
        self._remote = remote
        self._steps = Steps(self._incoming, self._do)
        self._watch = Watch(self._incoming, self._steps)
        self._requests = Requests(self._incoming, self._steps, self._stop_listening)
        self._connections = Connections(self._incoming, self._steps, self._requests)
        self._actions = Actions(self._incoming, self._connections, self._watch)
        self._door = Door(address, self._connections.take, self._incoming.side.notice, exposure, secure)

    @property
    def phase(self) -> Phase:
        return self._steps.phase

    @property
    def reason(self) -> str:
        """Why it has failed, or what is in doubt."""
        return self._incoming.side.reason

    @property
    def where(self) -> str:
        """The address on which it listens."""
        return self._incoming.where

    @property
    def peer(self) -> str:
        """Who has connected to it, for a person."""
        return self._incoming.peer

    @property
    def info(self) -> dict[str, Any]:
        """The source's last figures, with what is known here of the end."""
        return self._incoming.info(self.phase)

    @property
    def is_open(self) -> bool:
        """Whether it listens."""
        return self._door.is_open

    @property
    def socket_address(self) -> dict[str, str]:
        """The same as QAPI's SocketAddress."""
        return self._door.socket_address

    def open(self) -> None:
        """Listen. Raises QmonError."""
        self._door.open()
        self._incoming.where = self._door.where

    async def take_up(self, record: Record) -> None:
        """Take up a migration whose console has ended. Raises CommandError."""
        incoming = self._incoming
        incoming.continue_from(record)
        status, run_state = await incoming.qemu.status(), await incoming.qemu.run_state()
        phase, event = resumed_destination(record.phase, status, run_state)
        self._steps.begin_in(phase)
        incoming.may_run = event is Event.RUN
        await write_record(self._remote, record)
        incoming.server.is_serving = phase is Phase.MOVING
        match phase:
            case Phase.REFUSED:
                incoming.side.reason = "the QEMU at the destination is used up: its migration has failed"
                incoming.server.is_serving = await incoming.qemu.exports_ours()
                await incoming.close_exports(phase)
            case Phase.MOVING:
                self._watch.begin()
        if event is not None:
            await self._steps.step(event)

    async def resolve(self, action: str) -> None:
        """``migrate_resolve``. Raises CommandError."""
        event = Event.KEEP if action == "keep" else Event.RELEASE
        if self._connections.is_linked or not self._steps.takes(event):
            raise CommandError("there is nothing to resolve: no incoming migration is in doubt")
        await self._steps.step(event)

    async def close(self) -> None:
        """End: what has not arrived is taken back; a guest that stands here is left to a later console."""
        await self._stop_listening()
        await self._until_heard()
        await self._connections.close("the destination's console has ended")
        await self._watch.close()
        if self.phase in (Phase.SETUP, Phase.COPYING):
            await self._steps.try_(Event.LOST)
        self._incoming.lines.end()
        self._incoming.server.forget()

    async def leave_ended_qemu(self) -> None:
        """As ``close``, when another QEMU is where the one was that this was for."""
        self._incoming.server.forget()
        self._incoming.side.forget()
        self._steps.begin_in(Phase.NONE)
        await self.close()

    async def _stop_listening(self) -> None:
        await self._door.close()

    async def _until_heard(self) -> None:
        """Give a source that is still there the time to say that it knows of the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS):
                while self.phase is Phase.COMPLETED and self._connections.is_linked:
                    await self._incoming.side.changed.wait()
                await self._steps.until_made()

    async def _do(self, action: Action) -> None:
        await self._actions.do(action, self.phase)

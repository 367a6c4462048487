"""One migration at its source: follows the table, from ``agree`` to its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import Any

from qmon.errors import CommandError, QmonError, reason
from qmon.notation.address import Address
from qmon.qmp.target import Event as QmpEvent
from qmon.remote.migration.agreement.matching import Plan
from qmon.remote.migration.interruption import Interruptible, Interruption
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.rates.pacing import Pacing
from qmon.remote.migration.rates.settings import Settings
from qmon.remote.migration.recovery.record import Record, write_record
from qmon.remote.migration.recovery.resume import resumed_source
from qmon.remote.migration.side import Emit
from qmon.remote.migration.source.actions import Actions
from qmon.remote.migration.source.agreeing import agree
from qmon.remote.migration.source.outgoing import Outgoing
from qmon.remote.migration.source.watch import Watch
from qmon.remote.migration.states import NOT_INTERRUPTED, SOURCE, Action, Event, StateMachine
from qmon.remote.remote import Remote
from qmon.remote.secured import Secure

LAST_WORDS_SECONDS = 2.0
"""How long what a QEMU has said before its end may take to be heard."""
FIGURES_SECONDS = 0.2
"""How often the destination's console is told how far it is."""
AGAIN_SECONDS = 0.1
"""The pause before a step is tried again that must succeed in the end."""

_logger = logging.getLogger(__name__)


class Source:
    """One migration. ``agree`` first or ``take_up``, then ``run``, or ``leave`` after ``agree``."""

    def __init__(
        self,
        remote: Remote,
        uri: str,
        address: Address,
        emit: Emit,
        *,
        inc: bool,
        settings: Settings | None = None,
        secure: Secure | None = None,
    ) -> None:
        """``secure`` begins TLS on each connection to the destination."""
        self.uri = uri
        self._outgoing = Outgoing(
            remote, uri, address, emit, self._on_loss, inc=inc, settings=settings or Settings(), secure=secure
        )
        self._remote = remote
        self._side = self._outgoing.side
        self._watch = Watch(self._outgoing)
        self._actions = Actions(self._outgoing)
        self._machine = StateMachine(SOURCE, self._do, self._side.tell_phase)
        self._doing = Interruptible(self._machine.takes)

    @property
    def id(self) -> str:
        return self._outgoing.id

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    @property
    def reason(self) -> str:
        """Why it has failed, or what is in doubt."""
        return self._side.reason

    @property
    def pacing(self) -> Pacing:
        """What keeps the limits that a person sets."""
        return self._outgoing.pacing

    async def figures(self) -> dict[str, Any]:
        """Return the MigrationInfo. Raises CommandError."""
        return await self._outgoing.figures(self.phase)

    # The begin

    async def agree(self) -> Plan:
        """Connect, and compare both sides. Nothing is changed. Raises ProblemsError, QmonError."""
        await self._machine.step(Event.START)
        return await agree(self._outgoing)

    async def leave(self) -> None:
        """End after ``agree``: a trial, or a refusal."""
        await self._outgoing.guardian.stop()
        if self.phase is Phase.SETUP:
            await self._machine.step(Event.FAIL)
        await self._outgoing.peer.close("the source has ended it")

    async def take_up(self, record: Record) -> Event | None:
        """Take up a migration whose console has ended; return the event for ``run``. Raises CommandError."""
        self._outgoing.continue_from(record)
        qemu = self._outgoing.qemu
        status, run_state = await qemu.status(), await qemu.run_state()
        self._machine.phase, event = resumed_source(record.phase, status, run_state)
        self._side.reason = "the console that moved the guest has ended"
        await write_record(self._remote, record)
        return event

    # Driving

    async def run(self, event: Event | None = Event.AGREED) -> None:
        """Carry the migration out, to its end. None: wait first for what ends the phase."""
        unsubscribe = self._remote.subscribe(self._hear)
        telling = asyncio.create_task(self._tell_figures())
        try:
            event = self._doing.pending() or event
            while event is None or self.phase.is_under_way or self._machine.takes(event):
                event = await self._advance(event)
        finally:
            unsubscribe()
            telling.cancel()
            await self._outgoing.close()
            if not self.phase.is_under_way:  # else the guardian acts when this process ends
                await self._outgoing.guardian.stop()
            self._side.tell_phase(self.phase)

    async def _advance(self, event: Event | None) -> Event:
        """Make one transition; return the event for the next."""
        try:
            if event is not None:
                await self._machine.step(event)
            return await self._next()
        except Interruption as interrupted:
            return interrupted.event
        except Exception as error:
            if not isinstance(error, QmonError | OSError):
                _logger.exception("a migration failed unexpectedly")
            self._side.reason = self._side.reason or reason(error)
            if self._remote.peer_has_ended and self._machine.takes(Event.DIED):
                return await self._died()
            if self.phase is Phase.SWITCHING:  # where each failure leads here again
                await asyncio.sleep(AGAIN_SECONDS)
            if not self._machine.takes(Event.FAIL):
                raise
            return Event.FAIL

    async def _next(self) -> Event:
        """Wait for what ends the phase."""
        match self.phase:
            case Phase.COPYING:
                return await self._doing.run(self._watch.until_ready())
            case Phase.MOVING:
                return await self._doing.run(self._watch.until_stopped())
            case Phase.PAUSED:
                return self._doing.pending() or Event.WHOLE  # a cancel may have been accepted
            case Phase.SWITCHING:
                return await self._doing.run(self._watch.until_sent())
            case Phase.HANDED:
                return self._actions.outcome
            case Phase.DOUBT:
                return await self._doing.run(self._watch.until_reconnected())
        return Event.UNDONE

    async def _do(self, action: Action) -> None:
        work = self._actions.do(action, self.phase)
        if action in NOT_INTERRUPTED:
            await work
        else:
            await self._doing.run(work)

    async def _died(self) -> Event:
        """Return the event for the QEMU's end: BACK if it had run the guest again."""
        self._outgoing.pacing.cut()
        self._side.reason = "the source's QEMU has ended"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._remote.ended.wait()  # then all that it has said was heard
        has_run_it = self._outgoing.has_resumed and self._machine.takes(Event.BACK)
        return Event.BACK if has_run_it else Event.DIED

    async def _tell_figures(self) -> None:
        """Tell the other console how far it is."""
        while True:
            await asyncio.sleep(FIGURES_SECONDS)
            with contextlib.suppress(CommandError):
                self._outgoing.peer.tell("figures", await self.figures())

    # What comes from outside

    def _hear(self, event: QmpEvent) -> None:
        if event.name in ("STOP", "RESUME"):
            self._outgoing.has_resumed = event.name == "RESUME"
        if event.name == "STOP" and self.phase is Phase.MOVING:
            self._outgoing.stopped_at = time.monotonic()
        self._outgoing.nudges.nudge()

    def _on_loss(self, why: str) -> None:
        self._interrupt(Event.LOST, f"the connection to the destination was lost: {why}")

    def cancel(self) -> None:
        """``migrate_cancel``. Raises CommandError if it is too late."""
        if not self._interrupt(Event.CANCEL):
            raise CommandError("the migration can't be cancelled any more: the destination takes over")

    def resolve(self, action: str) -> None:
        """``migrate_resolve``. Raises CommandError."""
        if not self._interrupt(Event.KEEP if action == "keep" else Event.RELEASE):
            raise CommandError("there is nothing to resolve: no migration is in doubt")

    def _interrupt(self, event: Event, why: str = "") -> bool:
        """End what the side does in its phase by an event; return whether the phase takes it."""
        if not self._doing.interrupt(event):
            return False
        if why and not self._side.reason:
            self._side.reason = why
        return True

"""The destination's transitions: one at a time, each to its end, and what a failure leads to."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

from qmon.errors import CommandError, QmonError, reason
from qmon.remote.migration.destination.incoming import Incoming
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import DESTINATION, Action, Event, StateMachine
from qmon.transitions import InvalidTransitionError


class Steps:
    """Follows the table. Several may ask for a transition at the same time."""

    def __init__(self, incoming: Incoming, do: Callable[[Action], Awaitable[None]]) -> None:
        self._incoming = incoming
        self._side = incoming.side
        self._machine = StateMachine(DESTINATION, do, self._side.tell_phase)
        self._turn = asyncio.Lock()

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    def begin_in(self, phase: Phase) -> None:
        """Take up a migration in a phase."""
        self._machine.phase = phase

    def takes(self, event: Event) -> bool:
        """Whether the phase has a transition for an event."""
        return self._machine.takes(event)

    async def step(self, event: Event) -> None:
        """Make a transition. Raises CommandError; what its failure leads to has been done then.

        It is made to its end also when whoever asked for it has gone.
        """
        task = asyncio.create_task(self._transition(event))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise

    async def try_(self, event: Event) -> None:
        """Make a transition if there is one; a failure is told to the person."""
        if not self.takes(event):
            return
        try:
            await self.step(event)
        except CommandError as error:
            self._side.notice(f"A step of the incoming migration failed: {reason(error)}")

    async def until_left(self, phase: Phase) -> None:
        """Wait until the phase is another."""
        while self.phase is phase:
            await self._side.changed.wait()

    async def until_made(self) -> None:
        """Wait until the transition that is being made has been made."""
        async with self._turn:
            pass

    async def _transition(self, event: Event) -> None:
        async with self._turn:
            try:
                await self._machine.step(event)
            except InvalidTransitionError as error:
                raise CommandError(
                    f"not possible now: the destination's state is '{self.phase.value}'"
                ) from error
            except (QmonError, OSError) as error:
                self._side.reason = reason(error)
                await self._after_failure()
                raise CommandError(reason(error)) from error
            if self.phase is Phase.RUNNING:
                await self._machine.step(Event.STARTED)

    async def _after_failure(self) -> None:
        """Step on after an action has failed."""
        event = Event.BROKEN if self._incoming.remote.peer_has_ended else Event.FAIL
        if self.phase is Phase.RUNNING:
            event = Event.BROKEN if self._incoming.may_run else Event.FAIL
        if self.takes(event):
            with contextlib.suppress(QmonError, OSError):
                await self._machine.step(event)

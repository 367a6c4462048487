"""Watches the destination's QEMU from ``migrate-incoming`` on until it has the guest, or has failed."""

from __future__ import annotations

import asyncio

from qmon.errors import CommandError
from qmon.notation.plain_text import one_line
from qmon.remote.migration.destination.incoming import Incoming
from qmon.remote.migration.destination.steps import Steps
from qmon.remote.migration.nudges import Nudges
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.qemu import ENDED_THERE, POLL_SECONDS, is_lost
from qmon.remote.migration.states import Event

WATCH_SECONDS = 0.1
"""How often it looks at a QEMU that sends no event."""


class Watch:
    """Steps on when the QEMU says that it has all, or that it has failed."""

    def __init__(self, incoming: Incoming, steps: Steps) -> None:
        self._incoming = incoming
        self._steps = steps
        self._task: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Watch from now on."""
        self._task = asyncio.create_task(self._run())

    async def close(self) -> None:
        """Watch no more; idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        nudges = Nudges()
        unsubscribe = self._incoming.remote.subscribe(lambda event: nudges.nudge())
        try:
            while self._steps.phase is Phase.MOVING:
                is_arriving = await self._look()
                await nudges.wait(POLL_SECONDS if is_arriving else WATCH_SECONDS)
        finally:
            unsubscribe()

    async def _look(self) -> bool:
        """Look at the QEMU's migration; return whether it has all, and has only to say so."""
        incoming = self._incoming
        try:
            found = await incoming.qemu.migration()
            if found.get("status") == "completed":
                if await incoming.qemu.run_state() == "inmigrate":
                    return True
                await self._steps.try_(Event.LOADED)
            elif found.get("status") in ("failed", "cancelled"):
                why = found.get("error-desc") or "its QEMU could not read the memory"
                await self._broken(one_line(str(why)))
        except CommandError as error:
            if incoming.remote.ended.is_set() or incoming.remote.peer_has_ended:
                incoming.server.forget()
                await self._broken(ENDED_THERE)
            elif not is_lost(error):
                raise
        return False

    async def _broken(self, why: str) -> None:
        self._incoming.side.reason = why
        await self._steps.try_(Event.BROKEN)

"""Waits for what ends a phase of the source, by what its QEMU and the destination say."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any

from qmon.errors import CommandError, QmonError
from qmon.notation.plain_text import one_line
from qmon.remote.migration.copies import check_copies
from qmon.remote.migration.interruption import standing_still, within
from qmon.remote.migration.proof.verification import WARM_SECONDS
from qmon.remote.migration.qemu import ENDED_THERE, POLL_SECONDS
from qmon.remote.migration.source.outgoing import Outgoing
from qmon.remote.migration.states import Event

RECONNECT_SECONDS = 1.0
WATCH_SECONDS = 0.1
WHY_SECONDS = 2.0
"""How long the destination may take to say why it has failed."""
STUCK_SECONDS = 6.0
"""A QEMU that has not answered for so long waits for its line to the destination, and its guest with it."""

_STUCK = (
    f"the source's QEMU has not answered for {STUCK_SECONDS:g} s: its connection to the destination hangs"
)

Data = Mapping[str, Any]


class Watch:
    """Each method returns the event that ends its phase, or raises CommandError."""

    def __init__(self, outgoing: Outgoing) -> None:
        self._outgoing = outgoing
        self._qemu = outgoing.qemu

    async def until_ready(self) -> Event:
        """Wait until the disks are close, and what can be compared while the guest runs has been."""
        out = self._outgoing
        async with self._explained():
            await out.checks.open()
        looking: asyncio.Task[None] | None = None
        try:
            while True:
                jobs = await self._check_copies()
                is_close = await out.pacing.look()
                if is_close or out.pacing.seconds_behind() <= WARM_SECONDS:
                    out.checks.warm()
                is_close = is_close and all(jobs[each.job]["status"] == "ready" for each in out.copies)
                if is_close and looking is None:
                    looking = asyncio.create_task(out.checks.look())
                    await asyncio.sleep(0)
                    looking.add_done_callback(lambda _: out.nudges.nudge())
                if looking is not None and looking.done():
                    looking.result()
                    if is_close:
                        return Event.READY
                await out.nudges.wait(WATCH_SECONDS)
        finally:
            if looking is not None and not looking.done():
                looking.cancel()
                await asyncio.wait([looking])

    async def until_stopped(self) -> Event:
        """Wait until the QEMU has stopped the guest, or has failed."""
        while True:
            async with within(STUCK_SECONDS, _STUCK):
                if (event := await self._look_while_moving()) is not None:
                    return event
            await self._outgoing.nudges.wait(WATCH_SECONDS)

    async def _look_while_moving(self) -> Event | None:
        found = await self._qemu.migration()
        match found.get("status"):
            case "pre-switchover":
                self._outgoing.pacing.lift()
                return Event.STOPPED
            case "failed" | "cancelled":
                await self._learn_why(found)
                return Event.BACK
        await self._check_copies()
        await self._outgoing.pacing.look(found)
        await self._outgoing.see_whether_it_runs()
        return None

    async def until_sent(self) -> Event:
        """Wait until the QEMU, which was told to go on, says how that ended."""
        async with standing_still("the destination's QEMU has not taken it"):
            while True:
                found = await self._qemu.migration()
                self._outgoing.pacing.note_memory(found)
                match found.get("status"):
                    case "completed":
                        return Event.SENT
                    case "failed" | "cancelled" | "none":
                        await self._learn_why(found)
                        return Event.BACK
                await self._outgoing.nudges.wait(POLL_SECONDS)

    async def _learn_why(self, found: Data) -> None:
        """Keep why the QEMU's migration has failed. The destination knows it better, but perhaps later."""
        why = found.get("error-desc") or "the QEMU's migration failed"
        side = self._outgoing.side
        side.reason = side.reason or await self._why_there() or one_line(str(why))

    async def _check_copies(self) -> dict[str, dict[str, Any]]:
        """Return the jobs. Raises CommandError if one has ended: a dead QEMU there is an I/O error here."""
        async with self._explained():
            return await check_copies(self._qemu, self._outgoing.copies)

    @contextlib.asynccontextmanager
    async def _explained(self) -> AsyncIterator[None]:
        """Let what fails say why the destination's QEMU has failed, if it has."""
        try:
            yield
        except QmonError as error:
            if why := await self._why_there():
                raise CommandError(why) from error
            raise

    async def _why_there(self) -> str:
        """Return why the destination's QEMU has failed, "" if it has not or the console does not say."""
        try:
            async with asyncio.timeout(WHY_SECONDS):
                told = one_line(str((await self._outgoing.peer.ask("why"))["reason"]))
        except (CommandError, TimeoutError):
            return ""
        return told if not told or told == ENDED_THERE else f"the destination's QEMU: {told}"

    async def until_reconnected(self) -> Event:
        """Wait for a connection to the destination, in the place of a lost one."""
        peer = self._outgoing.peer
        while True:
            await asyncio.sleep(RECONNECT_SECONDS)
            if peer.is_connected:
                return Event.RECONNECTED
            with contextlib.suppress(QmonError):
                await peer.connect()
                return Event.RECONNECTED

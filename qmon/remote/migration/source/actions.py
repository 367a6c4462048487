"""The actions of the source's table, each by commands to its QEMU and requests to the destination."""

from __future__ import annotations

import asyncio
import contextlib
import time

from qmon.errors import CommandError, ConnectionLostError, QmonError, reason
from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.capabilities import wanted
from qmon.remote.migration.copies import Copy, add_target, complete_copies
from qmon.remote.migration.interruption import standing_still
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.qemu import POLL_SECONDS
from qmon.remote.migration.rates.pacing import MEMORY_LINE
from qmon.remote.migration.recovery.leftovers import remove_leftovers
from qmon.remote.migration.source.outgoing import Outgoing
from qmon.remote.migration.states import Action, Event
from qmon.remote.migration.wire.first_line import DISK, MEMORY

MEMORY_NAME = "qmon-memory"
HEARD_SECONDS, HEARD_TRIES = 3.0, 3


class Actions:
    """Carries them out for one migration."""

    def __init__(self, outgoing: Outgoing) -> None:
        self.outcome = Event.FAIL
        """What RUN, once it was sent, has led to."""
        self._outgoing = outgoing
        self._qemu = outgoing.qemu
        self._peer = outgoing.peer
        self._side = outgoing.side
        self._pacing = outgoing.pacing
        self._has_told_doubt = False

    async def do(self, action: Action, phase: Phase) -> None:
        """Carry an action out in the phase to which it belongs. Raises CommandError, QmonError, OSError."""
        out = self._outgoing
        match action:
            case Action.RECORD:
                await out.write_record(phase)
            case Action.GUARD:
                await out.guardian.start(out.id, [MEMORY_NAME, *(each.node for each in out.copies)])
            case Action.UNGUARD:
                out.guardian.disarm()
            case Action.CHECK_COPIES:
                await out.checks.check(self._pacing.downtime_limit)
            case Action.PREPARE_THERE:
                exports = [{"node": each.other.node, "export": each.export} for each in out.copies]
                await self._peer.ask("prepare", {"exports": exports})
            case Action.SET_UP:
                await self._set_up()
            case Action.ADD_TARGETS:
                await self._add_targets()
            case Action.START_COPIES:
                for each in out.copies:
                    await self._pacing.start(each)
            case Action.START_MEMORY:
                await self._start_memory()
            case Action.END_COPIES:
                await self._end_copies()
            case Action.REMOVE_TARGETS:
                for each in out.copies:
                    await self._qemu("blockdev-del", {"node-name": each.node})
            case Action.CLOSE_THERE:
                async with standing_still("the destination has not ended its exports"):
                    await self._peer.ask("close", {"runs": out.runs})
            case Action.CONTINUE:
                await self._qemu("migrate-continue", {"state": "pre-switchover"})
            case Action.TAKE_BACK:
                await self._qemu.give_up(line_is_lost=not self._peer.is_connected)
            case Action.SEND_RUN:
                await self._send_run(phase)
            case Action.TELL:
                self._tell(phase)
            case Action.RECORD_RAN:
                with contextlib.suppress(CommandError):  # a new console then asks again
                    await out.write_record(phase)
            case Action.SEND_HEARD:
                await self._send_heard()
            case Action.SEND_CALL_OFF:
                with contextlib.suppress(CommandError):
                    await self._peer.ask("call-off", {"reason": self._side.reason})
            case Action.RUN_HERE:
                if out.runs and await self._qemu.run_state() == "postmigrate":
                    await self._qemu("cont")
            case Action.UNDO:
                await self._undo(phase)

    # Before the guest moves

    async def _set_up(self) -> None:
        out = self._outgoing
        await self._side.set_up(wanted(is_source=True))
        if await out.checks.prepare(out.copies, out.settings.verify_copy):
            await self._side.note_server()

    async def _add_targets(self) -> None:
        out = self._outgoing
        await self._pacing.begin(out.copies)
        for each in out.copies:
            await self._add_target(each)
        out.memory = await self._peer.open(MEMORY)

    async def _add_target(self, copy: Copy) -> None:
        sock = await self._peer.open(DISK, copy.export)
        self._pacing.carry(copy.job, sock)
        await add_target(self._qemu, copy, await self._outgoing.handing.give(sock, copy.node))

    async def _start_memory(self) -> None:
        out = self._outgoing
        await out.see_whether_it_runs()
        assert out.memory is not None
        sock, out.memory = out.memory, None
        self._pacing.carry(MEMORY_LINE, sock)
        given = await out.handing.give(sock, MEMORY_NAME)
        await self._peer.ask("memory")
        uri = f"fd:{given['str']}" if given["type"] == "fd" else f"unix:{given['path']}"
        await self._qemu("migrate", {"uri": uri})

    # While it stands still

    async def _end_copies(self) -> None:
        async with standing_still("the copies of the disks have not ended"):
            for each in self._outgoing.copies:
                await self._qemu("block-job-cancel", {"device": each.job, "force": False})
            left = self._outgoing.copies
            while left := await complete_copies(self._qemu, left):
                await self._outgoing.nudges.wait(POLL_SECONDS)

    async def _send_run(self, phase: Phase) -> None:
        """Tell the destination to run the guest; keep what its answer says."""
        out = self._outgoing
        try:
            self._peer.tell("figures", await out.figures(phase))  # the destination tells its person, too
            answer = await self._peer.ask("run", {"id": out.id})
        except ConnectionLostError as error:
            self._side.reason = self._side.reason or reason(error)
            self.outcome = Event.LOST
            return
        outcome = answer.get("outcome") if isinstance(answer, dict) else None
        if outcome == "runs":
            self.outcome = Event.RUNS
            if out.stopped_at is not None:
                out.downtime = time.monotonic() - out.stopped_at
        elif outcome == "refused":
            self._side.reason = one_line(f"the destination can't run the guest: {answer.get('reason')}")
            self.outcome = Event.REFUSED
        else:
            self._side.reason = one_line(
                f"the destination does not know whether the guest runs there: {answer.get('reason')}"
            )
            self.outcome = Event.FAIL

    # Afterwards

    async def _send_heard(self) -> None:
        """Say that the guest is known to run there, on a new connection if this one is lost."""
        for _ in range(HEARD_TRIES):
            with contextlib.suppress(QmonError, TimeoutError):
                async with asyncio.timeout(HEARD_SECONDS):
                    if not self._peer.is_connected:
                        await self._peer.connect()
                    await self._peer.ask("heard")
                    return
            await self._peer.close("it was not heard")

    async def _undo(self, phase: Phase) -> None:
        out = self._outgoing
        self._pacing.lift()
        out.close_memory()
        if phase is not Phase.COMPLETED:
            self._pacing.cut()
        await out.checks.close()
        if out.remote.peer_has_ended:
            return
        found = await remove_leftovers(self._qemu, out.id if out.is_taken_up else "")
        if out.is_taken_up and found:
            self._side.notice(f"Removed what the earlier console had left: {found}")
        await out.handing.close()
        await self._side.restore()

    def _tell(self, phase: Phase) -> None:
        """Tell the person what is not known or not done, and what to do."""
        if not phase.is_under_way:
            self._side.notice(
                "Not all that the migration has changed in this QEMU could be taken back"
                f" ({self._side.reason}). Leave qmon and start it on this QEMU again: it retries. The guest"
                + (" runs at the destination" if phase is Phase.COMPLETED else " runs nowhere else")
            )
            return
        if self._has_told_doubt:
            return
        self._has_told_doubt = True
        self._side.notice(
            "The guest stands still here: this QEMU has sent it, and whether it runs at the destination"
            f" is not known ({self._side.reason}). {self._outgoing.uri} is asked each second. If its QEMU is"
            " known to have ended without running the guest, 'migrate_resolve keep' runs it here; if the"
            " guest is known to run there, 'migrate_resolve release' ends this"
        )

"""The source's side of a migration between two QEMUs. It drives the sequence."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
import uuid
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, ConnectionLostError, ProblemsError, QmonError, reason
from qmon.notation.address import Address
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Event as QmpEvent
from qmon.remote.migration.agreement.capabilities import wanted
from qmon.remote.migration.agreement.inventory import Inventory, take_inventory
from qmon.remote.migration.agreement.matching import Plan, match
from qmon.remote.migration.agreement.sides import wrong_with_source
from qmon.remote.migration.copies import Copy, add_target, check_copies, complete_copies
from qmon.remote.migration.interruption import Interruptible, Interruption, within
from qmon.remote.migration.lines.handing import Handing
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof.checks import Checks
from qmon.remote.migration.qemu import POLL_SECONDS, Qemu
from qmon.remote.migration.rates.pacing import MEMORY_LINE, Pacing
from qmon.remote.migration.rates.settings import Settings
from qmon.remote.migration.recovery.guardian import Guardian
from qmon.remote.migration.recovery.leftovers import remove_leftovers
from qmon.remote.migration.recovery.record import Record, this_console, write_record
from qmon.remote.migration.recovery.resume import resumed_source
from qmon.remote.migration.report import merged, plan_info, whole
from qmon.remote.migration.side import Emit, Side
from qmon.remote.migration.states import SOURCE, Action, Event, StateMachine
from qmon.remote.migration.wire.first_line import DISK, MEMORY
from qmon.remote.migration.wire.peer import Peer
from qmon.remote.remote import Remote

RECONNECT_SECONDS = 1.0
LAST_WORDS_SECONDS = 2.0
WATCH_SECONDS = 0.1
MEMORY_NAME = "qmon-memory"
WHY_SECONDS = 2.0
HEARD_SECONDS, HEARD_TRIES = 3.0, 3
STUCK_SECONDS = 6.0
"""A QEMU that has not answered for so long waits for its line to the destination, and its guest with it."""
STANDING_SECONDS = 20.0
"""For each step in which the guest stands still; then the migration is called off, and it runs again."""
"""How long the destination may take to say why it has failed."""

_logger = logging.getLogger(__name__)

Data = Mapping[str, Any]


class Source:
    """One migration, from ``agree`` to its end."""

    def __init__(
        self,
        remote: Remote,
        uri: str,
        address: Address,
        emit: Emit,
        *,
        inc: bool,
        settings: Settings | None = None,
    ) -> None:
        self.qemu = Qemu(remote)
        self.id = str(uuid.uuid4())
        self.uri = uri
        self.begun = time.monotonic()
        self.ended: float | None = None
        self.downtime: float | None = None
        self.plan: Plan | None = None
        self._remote = remote
        self._inc = inc
        self._side = Side(self.qemu, emit, "source")
        self._settings = settings or Settings()
        self.pacing = Pacing(self._side, self._settings, inc=inc)
        self._peer = Peer(uri, address, self.id, lambda event, data: None, self._on_loss)
        self.checks = Checks(remote, self._peer.ask, self.id, self._side.notice)
        self._machine = StateMachine(SOURCE, self._do, self._side.tell_phase)
        self._doing = Interruptible(self._machine.takes)
        self._copies: list[Copy] = []
        self._handing = Handing(remote)
        self._guardian = Guardian()
        self._memory: socket.socket | None = None
        self._kick = asyncio.Event()
        self._runs = True
        self._is_taken_up = False
        self._stopped_at: float | None = None
        self._has_resumed = False
        """Whether the QEMU has run the guest again after it was stopped. QEMU says so before it does it."""
        self._outcome: Event | None = None
        self._has_told_doubt = False

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    @property
    def reason(self) -> str:
        return self._side.reason

    # Agreeing

    async def agree(self) -> Plan:
        """Connect, and compare both sides. Nothing is changed. Raises ProblemsError, QmonError."""
        await self._machine.step(Event.START)
        ours = await take_inventory(self._remote)
        if ours.obstacles:
            raise ProblemsError(list(wrong_with_source(ours)))
        await self._peer.connect()
        theirs = Inventory.from_message(await self._peer.ask("inventory"))
        plan = match(ours, theirs, inc=self._inc)
        if plan.refusals:
            raise ProblemsError(plan.refusals)
        if not plan.pairs:
            raise QmonError("there is no disk to copy: use 'migrate' without blk")
        await self.checks.prove(plan, self._settings.verify_copy, inc=self._inc)
        self.plan = plan
        mark = self.id.replace("-", "")[:6]
        self._copies = [
            Copy(each.source, each.destination, *(f"qmon-{kind}{n}-{mark}" for kind in "mtx"))
            for n, each in enumerate(plan.pairs)
        ]
        self._runs = ours.status == "running"
        return plan

    async def leave(self) -> None:
        """End after ``agree``: a trial, or a refusal."""
        if self.phase is Phase.SETUP:
            await self._machine.step(Event.FAIL)
        await self._peer.close("the source has ended it")

    def _on_loss(self, why: str) -> None:
        self.interrupt(Event.LOST, f"the connection to the destination was lost: {why}")

    # Driving

    async def take_up(self, record: Record) -> Event | None:
        """Take up a migration whose console has ended; return the event for ``run``. Raises CommandError."""
        self.id, self._runs, self._side.record = record.id, record.runs, record
        self._peer.migration = record.id
        record.console = this_console()
        self._is_taken_up = True
        status, run_state = await self.qemu.status(), await self.qemu.run_state()
        self._machine.phase, event = resumed_source(record.phase, status, run_state)
        self._side.reason = "the console that has moved it has ended"
        await write_record(self._remote, record)
        return event

    async def run(self, event: Event | None = Event.AGREED) -> None:
        """Carry the migration out, to its end. None: wait first for what ends the phase."""
        unsubscribe = self._remote.subscribe(self._hear_qemu)
        watching = asyncio.create_task(self._watch())
        try:
            event = self._doing.pending() or event
            while event is None or self.phase.is_under_way or self._machine.takes(event):
                event = await self._advance(event)
        finally:
            self.ended = time.monotonic()
            unsubscribe()
            watching.cancel()
            await self._peer.close("the migration has ended")
            self._close_memory()
            self.pacing.close()
            await self._clear_up()
            if not self.phase.is_under_way:  # else the guardian acts when this process ends
                await self._guardian.stop()
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
                await asyncio.sleep(WATCH_SECONDS)
            if not self._machine.takes(Event.FAIL):
                raise
            return Event.FAIL

    async def _next(self) -> Event:
        """Wait for what ends the phase."""
        match self.phase:
            case Phase.COPYING:
                await self._doing.run(self._until_ready())
                return Event.READY
            case Phase.MOVING:
                return await self._doing.run(self._until_stopped())
            case Phase.PAUSED:
                return self._doing.pending() or Event.WHOLE  # a cancel may have been accepted
            case Phase.SWITCHING:
                async with within(STANDING_SECONDS, f"{_STANDS}, and the other QEMU has not taken it"):
                    return await self._doing.run(self._until_sent())
            case Phase.HANDED:
                assert self._outcome is not None
                return self._outcome
            case Phase.DOUBT:
                return await self._doing.run(self._until_reconnected())
        return Event.UNDONE

    async def _died(self) -> Event:
        """Return the event for the QEMU's end: BACK if it had run the guest again."""
        self.pacing.cut()
        self._side.reason = "the QEMU here has ended"
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORDS_SECONDS):
                await self._remote.ended.wait()  # then all that it has said was heard
        return Event.BACK if self._has_resumed and self._machine.takes(Event.BACK) else Event.DIED

    def interrupt(self, event: Event, why: str = "") -> bool:
        """End what the side does in its phase by an event; return whether the phase takes it."""
        if not self._doing.interrupt(event):
            return False
        if why and not self._side.reason:
            self._side.reason = why
        return True

    # What ends a phase

    def _hear_qemu(self, event: QmpEvent) -> None:
        if event.name in ("STOP", "RESUME"):
            self._has_resumed = event.name == "RESUME"
        if event.name == "STOP" and self.phase is Phase.MOVING:
            self._stopped_at = time.monotonic()
        self._kick.set()

    async def _tick(self, seconds: float = WATCH_SECONDS) -> None:
        """Wait until the QEMU has sent an event, or for a moment."""
        self._kick.clear()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._kick.wait()

    async def _until_ready(self) -> None:
        """Wait until the disks are close, and what can be compared while the guest runs has been."""
        checking: asyncio.Task[None] | None = None
        try:
            while True:
                jobs = await check_copies(self.qemu, self._copies)
                is_close = await self.pacing.look()
                is_close = is_close and all(jobs[each.job]["status"] == "ready" for each in self._copies)
                if is_close and checking is None:
                    checking = asyncio.create_task(self.checks.open())
                    checking.add_done_callback(lambda _: self._kick.set())
                if checking is not None and checking.done():
                    checking.result()
                    if is_close:
                        return
                await self._tick()
        finally:
            if checking is not None and not checking.done():
                checking.cancel()
                await asyncio.wait([checking])

    async def _until_stopped(self) -> Event:
        while True:
            async with within(STUCK_SECONDS, "the QEMU here has not answered: its line hangs"):
                if (event := await self._look_while_moving()) is not None:
                    return event
            await self._tick()

    async def _look_while_moving(self) -> Event | None:
        found = await self.qemu.migration()
        match found.get("status"):
            case "pre-switchover":
                self.pacing.lift()
                return Event.STOPPED
            case "failed" | "cancelled":
                await self._learn_why(found)
                return Event.BACK
        await check_copies(self.qemu, self._copies)
        await self.pacing.look(found)
        await self._see_whether_it_runs()
        return None

    async def _see_whether_it_runs(self) -> None:
        """Keep whether the guest runs: one that a person has stopped is not to run at the destination."""
        state = await self.qemu.run_state()
        if state in ("running", "paused"):  # and not in a state of the migration
            self._runs = state == "running"

    async def _until_sent(self) -> Event:
        while True:
            found = await self.qemu.migration()
            self.pacing.note_memory(found)
            match found.get("status"):
                case "completed":
                    return Event.SENT
                case "failed" | "cancelled" | "none":
                    await self._learn_why(found)
                    return Event.BACK
            await self._tick(POLL_SECONDS)

    async def _learn_why(self, found: Data) -> None:
        """Keep why the QEMU's migration has failed. The destination knows it better, but perhaps later."""
        why = found.get("error-desc") or "the QEMU's migration failed"
        with contextlib.suppress(CommandError, TimeoutError):
            async with asyncio.timeout(WHY_SECONDS):
                told = await self._peer.ask("why")
                why = f"the destination's QEMU: {told['reason']}" if told["reason"] else why
        self._side.reason = self._side.reason or one_line(str(why))

    async def _until_reconnected(self) -> Event:
        while True:
            await asyncio.sleep(RECONNECT_SECONDS)
            if self._peer.is_connected:
                return Event.RECONNECTED
            with contextlib.suppress(QmonError):
                await self._peer.connect()
                return Event.RECONNECTED

    def _tell(self) -> None:
        """Tell the person what is not known or not done, and what to do."""
        if not self.phase.is_under_way:
            self._side.notice(
                "Not all that the migration has changed in this QEMU could be taken back"
                f" ({self._side.reason}). Leave qmon and start it on this QEMU again: it retries. The guest"
                + (" runs at the destination" if self.phase is Phase.COMPLETED else " runs nowhere else")
            )
            return
        if self._has_told_doubt:
            return
        self._has_told_doubt = True
        self._side.notice(
            "The guest stands still here: this QEMU has sent it, and whether it runs at the destination"
            f" is not known ({self._side.reason}). {self.uri} is asked each second. If its QEMU is known"
            " to have ended without running the guest, 'migrate_resolve keep' runs it here; if the guest"
            " is known to run there, 'migrate_resolve release' ends this"
        )

    async def _watch(self) -> None:
        """Tell the other console how far it is."""
        while True:
            await asyncio.sleep(WATCH_SECONDS * 2)
            with contextlib.suppress(CommandError):
                self._peer.tell("figures", await self.figures())

    async def figures(self) -> dict[str, Any]:
        """Return the MigrationInfo. Raises CommandError."""
        info = merged(plan_info(self.plan), self.pacing.info())
        info |= {"status": self.phase.status, "total-time": _milliseconds(self.begun, self.ended)}
        if self.phase in (Phase.HANDED, Phase.DOUBT, Phase.COMPLETED):
            info = {**whole(info), "x-qmon-runs": self._runs}
        if self.downtime is not None:
            info["downtime"] = round(self.downtime * 1000)
        elif self.phase is Phase.HANDED and self._stopped_at is not None:
            info["downtime"] = _milliseconds(self._stopped_at)
        told = {"x-qmon-verified": self.checks.verified, "x-qmon-line": _LINE[self._handing.is_direct]}
        return info | {name: text for name, text in told.items() if text}

    # Actions

    async def _do(self, action: Action) -> None:
        work = self._work(action)
        if action in NOT_INTERRUPTED:
            await work
        else:
            await self._doing.run(work)

    async def _work(self, action: Action) -> None:
        match action:
            case Action.RECORD:
                await self._side.write_record(self.id, self.uri, self.phase.value, runs=self._runs)
            case Action.GUARD:
                names = [MEMORY_NAME, *(each.node for each in self._copies)]
                await self._guardian.start(self._remote, self.id, names)
            case Action.UNGUARD:
                self._guardian.disarm()
            case Action.CHECK_COPIES:
                await self.checks.check(self.pacing.downtime_limit)
            case Action.PREPARE_THERE:
                exports = [{"node": each.other.node, "export": each.export} for each in self._copies]
                await self._peer.ask("prepare", {"exports": exports})
            case Action.SET_UP:
                await self._side.set_up(wanted(is_source=True))
                if await self.checks.prepare(self._copies, self._settings.verify_copy):
                    await self._side.note_server()
            case Action.ADD_TARGETS:
                await self.pacing.begin(self._copies)
                for each in self._copies:
                    await self._add_target(each)
                self._memory = await self._peer.open(MEMORY)
            case Action.START_COPIES:
                for each in self._copies:
                    await self.pacing.start(each)
            case Action.START_MEMORY:
                await self._start_memory()
            case Action.END_COPIES:
                async with within(STANDING_SECONDS, f"{_STANDS}, and the copies of the disks have not ended"):
                    await self._end_copies()
            case Action.REMOVE_TARGETS:
                for each in self._copies:
                    await self.qemu("blockdev-del", {"node-name": each.node})
            case Action.CLOSE_THERE:
                async with within(STANDING_SECONDS, f"{_STANDS}, and the exports have not ended"):
                    await self._peer.ask("close", {"runs": self._runs})
            case Action.CONTINUE:
                await self.qemu("migrate-continue", {"state": "pre-switchover"})
            case Action.TAKE_BACK:
                await self.qemu.give_up(line_is_lost=not self._peer.is_connected)
            case Action.SEND_RUN:
                await self._send_run()
            case Action.TELL:
                self._tell()
            case Action.RECORD_RAN:
                with contextlib.suppress(CommandError):  # a new console then asks again
                    await self._side.write_record(self.id, self.uri, self.phase.value, runs=self._runs)
            case Action.SEND_HEARD:
                await self._send_heard()
            case Action.SEND_CALL_OFF:
                with contextlib.suppress(CommandError):
                    await self._peer.ask("call-off", {"reason": self._side.reason})
            case Action.RUN_HERE:
                if self._runs and await self.qemu.run_state() == "postmigrate":
                    await self.qemu("cont")
            case Action.UNDO:
                await self._undo()

    async def _add_target(self, copy: Copy) -> None:
        sock = await self._peer.open(DISK, copy.export)
        self.pacing.carry(copy.job, sock)
        await add_target(self.qemu, copy, await self._handing.give(sock, copy.node))

    async def _start_memory(self) -> None:
        await self._see_whether_it_runs()
        assert self._memory is not None
        sock, self._memory = self._memory, None
        self.pacing.carry(MEMORY_LINE, sock)
        given = await self._handing.give(sock, MEMORY_NAME)
        await self._peer.ask("memory")
        uri = f"fd:{given['str']}" if given["type"] == "fd" else f"unix:{given['path']}"
        await self.qemu("migrate", {"uri": uri})

    async def _end_copies(self) -> None:
        for each in self._copies:
            await self.qemu("block-job-cancel", {"device": each.job, "force": False})
        left = self._copies
        while left := await complete_copies(self.qemu, left):
            await self._tick(POLL_SECONDS)

    async def _send_run(self) -> None:
        """Tell the destination to run the guest; keep what its answer says."""
        try:
            self._peer.tell("figures", await self.figures())  # the destination tells its person, too
            answer = await self._peer.ask("run", {"id": self.id})
        except ConnectionLostError as error:
            self._side.reason = self._side.reason or reason(error)
            self._outcome = Event.LOST
            return
        outcome = answer.get("outcome") if isinstance(answer, dict) else None
        if outcome == "runs":
            self._outcome = Event.RUNS
            if self._stopped_at is not None:
                self.downtime = time.monotonic() - self._stopped_at
        elif outcome == "refused":
            self._side.reason = one_line(f"the destination can't run the guest: {answer.get('reason')}")
            self._outcome = Event.REFUSED
        else:
            self._side.reason = one_line(f"the destination does not know: {answer.get('reason')}")
            self._outcome = Event.FAIL

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

    async def _clear_up(self) -> None:
        """Remove what was made on this host, also if the QEMU has ended; idempotent."""
        for close in (self.checks.close, self._handing.close):
            with contextlib.suppress(CommandError):  # the QEMU is not there
                await close()

    async def _undo(self) -> None:
        self.pacing.lift()
        self._close_memory()
        if self.phase is not Phase.COMPLETED:
            self.pacing.cut()
        await self.checks.close()
        if self._remote.peer_has_ended:
            return
        found = await remove_leftovers(self.qemu, self.id if self._is_taken_up else "")
        if self._is_taken_up and found:
            self._side.notice(f"Removed what the console that has ended had left: {found}")
        await self._handing.close()
        await self._side.restore()

    def _close_memory(self) -> None:
        if self._memory is not None:
            self._memory.close()
            self._memory = None

    # The person

    def cancel(self) -> None:
        """``migrate_cancel``. Raises CommandError if it is too late."""
        if not self.interrupt(Event.CANCEL):
            raise CommandError("the migration can't be cancelled any more: the destination takes over")

    def resolve(self, action: str) -> None:
        """``migrate_resolve``. Raises CommandError."""
        if not self.interrupt(Event.KEEP if action == "keep" else Event.RELEASE):
            raise CommandError("there is nothing to resolve: no migration is in doubt")


_STANDS = "the guest stands still"

_LINE = (
    "this console and the destination's, which pass disks and memory on: QEMU gave no Unix socket",
    "the QEMUs' own connections; the destination's console passes the disks on",
)
"""How disks and memory travel: through this console, or not."""


def _milliseconds(begun: float, ended: float | None = None) -> int:
    return round(((time.monotonic() if ended is None else ended) - begun) * 1000)


NOT_INTERRUPTED = frozenset(
    {
        Action.GUARD,
        Action.TAKE_BACK,
        Action.SEND_CALL_OFF,
        Action.UNDO,
        Action.RUN_HERE,
        Action.SEND_HEARD,
        Action.UNGUARD,
        Action.SEND_RUN,
        Action.RECORD_RAN,
        Action.TELL,
    }
)
"""Actions that no further event may end: what they do settles the matter."""

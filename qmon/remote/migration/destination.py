"""The destination's side of a migration between two QEMUs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from qmon.errors import CommandError, QmonError, reason
from qmon.notation.address import Address
from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.capabilities import wanted
from qmon.remote.migration.agreement.inventory import take_inventory
from qmon.remote.migration.agreement.requested import requested_exports
from qmon.remote.migration.lines.incoming_lines import IncomingLines
from qmon.remote.migration.lines.private_server import PrivateServer
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.proof.answers import Answers
from qmon.remote.migration.qemu import POLL_SECONDS, Qemu, is_lost
from qmon.remote.migration.recovery.leftovers import remove_leftovers
from qmon.remote.migration.recovery.record import Record, this_console, write_record
from qmon.remote.migration.recovery.resume import resumed_destination
from qmon.remote.migration.report import has_ended_well, read_figures, whole
from qmon.remote.migration.side import Emit, Side
from qmon.remote.migration.states import DESTINATION, Action, Event, InvalidTransitionError, StateMachine
from qmon.remote.migration.wire.channel import Channel, open_channel
from qmon.remote.migration.wire.door import Door, make_lasting, peer_name
from qmon.remote.migration.wire.first_line import answer
from qmon.remote.remote import Remote

UNDO_SECONDS = 10.0
"""How long a console that ends waits until its QEMU is as before."""
LOADED_SECONDS = 30.0
"""How long RUN waits for the QEMU to have read what the source has sent."""
WHY_SECONDS = 1.0
HEARD_SECONDS = 5.0
"""How long a console that leaves waits for a source to say that it knows that the guest runs here."""

Data = Mapping[str, Any]


class Destination:
    """Takes one migration after the other, until one has arrived, or the QEMU is used up."""

    def __init__(self, remote: Remote, address: Address, emit: Emit) -> None:
        self.qemu = Qemu(remote)
        self.id = ""
        self.peer = ""
        """Who has connected to it, for a person."""
        self.figures: dict[str, Any] = {}
        """The source's last figures (``query-migrate``)."""
        self._remote = remote
        self._side = Side(self.qemu, emit, "destination")
        self._door = Door(address, self._take, self._side.notice)
        self._machine = StateMachine(DESTINATION, self._do, self._side.tell_phase)
        self._server = PrivateServer(remote)
        self._answers = Answers(remote, self._server)
        self._channel: Channel | None = None
        self._lines = IncomingLines(remote, self._server)
        self._exports: list[tuple[str, str]] = []
        self._runs = True
        self._is_taken_up = False
        self._starting_seconds = 0.0
        """How long the QEMU has taken to run the guest: a part of the downtime."""
        self._may_run = False
        """Whether it is not known that the guest has not run here."""
        self._refuses = False
        """Whether it is kept that the guest must not run here."""
        self._stepping = asyncio.Lock()
        self._taking = asyncio.Lock()
        self._watching: asyncio.Task[None] | None = None
        self._linking: asyncio.Task[None] | None = None
        self._requests: dict[str, Callable[[Data], Awaitable[Any]]] = {
            "inventory": self._inventory,
            "prepare": self._prepare,
            "memory": self._take_memory,
            "close": self._close,
            "run": self._run,
            "call-off": self._call_off,
            "heard": self._heard,
            "why": self._why,
        }

    @property
    def phase(self) -> Phase:
        return self._machine.phase

    @property
    def reason(self) -> str:
        return self._side.reason

    @property
    def where(self) -> str:
        """The address on which it listens."""
        return self._door.where

    @property
    def info(self) -> dict[str, Any]:
        """The source's last figures, with what is known here of the end."""
        figures = self.figures
        if has_ended_well(self.phase):
            figures = {**whole(figures), "x-qmon-runs": self._runs}
        if "downtime" in figures:
            return {**figures, "downtime": figures["downtime"] + round(self._starting_seconds * 1000)}
        return dict(figures)

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

    async def take_up(self, record: Record) -> None:
        """Take up a migration whose console has ended. Raises CommandError."""
        self.id, self._runs, self._side.record = record.id, record.runs, record
        record.console = this_console()
        self._is_taken_up = True
        status, run_state = await self.qemu.status(), await self.qemu.run_state()
        self._machine.phase, event = resumed_destination(record.phase, status, run_state)
        self._may_run = event is Event.RUN
        await write_record(self._remote, record)
        self._server.is_serving = self.phase is Phase.MOVING
        match self.phase:
            case Phase.REFUSED:
                self._side.reason = "the QEMU at the destination is used up: its migration has failed"
                self._server.is_serving = await self.qemu.exports_ours()
                await self._close_exports()
            case Phase.MOVING:
                self._watching = asyncio.create_task(self._watch())
        if event is not None:
            await self._step(event)

    async def close(self) -> None:
        """End: what has not arrived is taken back; a guest that stands here is left to a later console."""
        await self._door.close()
        await self._until_heard()
        if self._channel is not None:
            await self._channel.close("the destination's console has ended")
        if self._linking is not None:  # it takes back what the loss of the connection ends
            await asyncio.wait([self._linking], timeout=UNDO_SECONDS)
        for each in filter(None, (self._watching, self._linking)):
            each.cancel()
            await asyncio.wait([each])
        if self.phase in (Phase.SETUP, Phase.COPYING):
            await self._try(Event.LOST)
        self._lines.end()
        self._server.forget()

    async def _until_heard(self) -> None:
        """Give a source that is still there the time to say that it knows of the end."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(HEARD_SECONDS):
                while self.phase is Phase.COMPLETED and self._channel and not self._channel.lost.is_set():
                    await self._side.changed.wait()
                async with self._stepping:
                    pass  # what follows from it has been done

    # Connections

    async def _take(self, sock: socket.socket, line: dict[str, Any]) -> None:
        """Take a connection by its first line. Raises QmonError."""
        make_lasting(sock)
        match line["connection"]:
            case "control":
                async with self._taking:
                    await self._take_control(sock, line["id"])
            case "disk":
                self._check_awaited(line["id"])
                await self._lines.take_disk(sock, line.get("export", ""))
            case _:
                self._check_awaited(line["id"])
                await self._lines.take_memory(sock)

    def _check_awaited(self, id_: str) -> None:
        if id_ != self.id or self.phase is not Phase.COPYING:
            raise QmonError("no migration waits for this connection")

    async def _take_control(self, sock: socket.socket, id_: str) -> None:
        if id_ != self.id:
            if self.phase not in (Phase.NONE, Phase.FAILED):
                raise QmonError(self._busy())
            if self._channel is not None and not self._channel.lost.is_set():
                raise QmonError("another migration comes in already")
        elif self._channel is not None:
            await self._channel.close("its source has connected again")
        await answer(sock)
        self.peer = peer_name(sock)
        if self._linking is not None:  # an earlier source's loss may still be taken back
            await asyncio.wait([self._linking])
        if id_ != self.id:
            self.id, self.figures, self._side.reason = id_, {}, ""
            await self._try(Event.START)
        self._channel = await open_channel(sock, functools.partial(self._answer, id_), self._hear)
        self._linking = asyncio.create_task(self._watch_channel(self._channel))

    def _busy(self) -> str:
        if self.phase is Phase.REFUSED:
            return "the QEMU at the destination is used up by an earlier migration: start it anew"
        return "the QEMU at the destination has another migration"

    async def _watch_channel(self, channel: Channel) -> None:
        await channel.lost.wait()
        if self._channel is not channel:
            return
        with contextlib.suppress(CommandError):  # a later undoing tells what is wrong with the QEMU
            await self._answers.close()
        if self.phase in (Phase.SETUP, Phase.COPYING) and not self._side.reason:
            self._side.reason = f"the connection to the source was lost: {channel.why}"
        await self._try(Event.LOST)

    def _tell_doubt(self) -> None:
        if self._channel is not None and not self._channel.lost.is_set():
            return
        why = "the console here was started anew" if self._channel is None else self._channel.why
        if self.phase is Phase.COMPLETED:
            self._side.notice(
                f"The guest runs here. The connection to the source was lost before it heard so ({why}). It"
                " asks again when it can. If it has ended, or says that the migration is completed,"
                " 'migrate_resolve keep' ends the migration here"
            )
            return
        self._side.reason = (
            "the guest has arrived and stands still: the connection to the source was lost before it said"
            f" that the guest may run ({why}). The source asks again when it can. If the source's QEMU is"
            " known to have ended and not to have run the guest again, 'migrate_resolve keep' runs the guest"
            " here; if the guest runs at the source, 'migrate_resolve release' ends this"
        )
        self._side.notice(self._side.reason)

    def _hear(self, event: str, data: Data) -> None:
        if event == "figures":
            self.figures = read_figures(data)
        elif event == "notice":
            self._side.notice(one_line(str(data.get("message"))))

    # Requests

    async def _answer(self, id_: str, command: str, arguments: Data) -> Any:
        """Answer a request of the migration ``id_``, which may have ended meanwhile."""
        if id_ != self.id:
            raise CommandError("the migration has ended at the destination")
        requests = {**self._requests, **self._answers.requests(self.phase)}
        if command not in requests:
            raise CommandError(f"the destination's console does not know '{one_line(command)}' now")
        return await requests[command](arguments)

    async def _inventory(self, arguments: Data) -> Any:
        return (await take_inventory(self._remote)).to_message()

    async def _prepare(self, arguments: Data) -> Any:
        self._exports = requested_exports(arguments, await take_inventory(self._remote))
        await self._step(Event.PREPARE)
        return {}

    async def _take_memory(self, arguments: Data) -> Any:
        if not self._lines.has_memory:
            raise CommandError("the connection for the memory is not there")
        await self._step(Event.MEMORY)
        return {}

    async def _close(self, arguments: Data) -> Any:
        self._runs = bool(arguments["runs"])
        await self._step(Event.CLOSE)
        return {}

    async def _run(self, arguments: Data) -> Any:
        """RUN: the source's QEMU can't run the guest any more. The answer says what has become of it."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOADED_SECONDS):
                while self.phase is Phase.MOVING:
                    await self._side.changed.wait()
        if self._machine.takes(Event.RUN):
            with contextlib.suppress(CommandError):  # what has come of it is the answer
                await self._step(Event.RUN)
        while self.phase is Phase.RUNNING:
            await self._side.changed.wait()
        return self._outcome()

    def _outcome(self) -> dict[str, Any]:
        match self.phase:
            case Phase.COMPLETED | Phase.SETTLED:
                return {"outcome": "runs"}
            case Phase.REFUSED if self._refuses:
                return {"outcome": "refused", "reason": self._side.reason}
        return {"outcome": "unknown", "reason": f"the destination's state is '{self.phase.value}'"}

    async def _call_off(self, arguments: Data) -> Any:
        why = one_line(str(arguments.get("reason", "")))
        if self._machine.takes(Event.CALL_OFF):
            self._side.reason = "the source has called it off" + (f": {why}" if why else "")
            await self._step(Event.CALL_OFF)
        return {}

    async def _heard(self, arguments: Data) -> Any:
        await self._try(Event.HEARD)
        if self.phase is Phase.SETTLED:
            await self._door.close()  # nobody has anything to ask any more
        return {}

    async def _why(self, arguments: Data) -> Any:
        """Say why the QEMU here has failed, "" if it has not; what it failed on arrives in a moment."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(WHY_SECONDS):
                while self.phase is Phase.MOVING:
                    await self._side.changed.wait()
        return {"reason": self._side.reason if self.phase is Phase.REFUSED else ""}

    async def resolve(self, action: str) -> None:
        """``migrate_resolve``. Raises CommandError."""
        event = Event.KEEP if action == "keep" else Event.RELEASE
        is_linked = self._channel is not None and not self._channel.lost.is_set()
        if is_linked or not self._machine.takes(event):
            raise CommandError("there is nothing to resolve: no incoming migration is in doubt")
        await self._step(event)

    # The QEMU

    async def _watch(self) -> None:
        """Watch the QEMU from ``migrate-incoming`` on until it has the guest, or has failed."""
        while self.phase is Phase.MOVING:
            try:
                found = await self.qemu.migration()
                if found.get("status") == "completed" and await self.qemu.run_state() != "inmigrate":
                    await self._try(Event.LOADED)
                elif found.get("status") in ("failed", "cancelled"):
                    why = found.get("error-desc") or "its QEMU could not read the memory"
                    self._side.reason = one_line(str(why))
                    await self._try(Event.BROKEN)
            except CommandError as error:
                if self._remote.ended.is_set() or self._remote.peer_has_ended:
                    self._side.reason = "the QEMU at the destination has ended"
                    self._server.forget()
                    await self._try(Event.BROKEN)
                elif not is_lost(error):
                    raise
            await asyncio.sleep(POLL_SECONDS)

    # Steps

    async def _step(self, event: Event) -> None:
        """Make a transition. Raises CommandError; what its failure leads to has been done then.

        It is made to its end also when whoever asked for it has gone.
        """
        task = asyncio.create_task(self._transition(event))
        try:
            await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())
            raise

    async def _transition(self, event: Event) -> None:
        async with self._stepping:
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
        event = Event.BROKEN if self._remote.peer_has_ended else Event.FAIL
        if self.phase is Phase.RUNNING:
            event = Event.BROKEN if self._may_run else Event.FAIL
        if self._machine.takes(event):
            with contextlib.suppress(QmonError, OSError):
                await self._machine.step(event)

    async def _try(self, event: Event) -> None:
        """Make a transition if there is one; a failure is told to the person."""
        if not self._machine.takes(event):
            return
        try:
            await self._step(event)
        except CommandError as error:
            self._side.notice(f"The migration from the source: {reason(error)}")

    async def _do(self, action: Action) -> None:
        match action:
            case Action.RECORD:
                await self._side.write_record(self.id, self.where, self.phase.value, runs=self._runs)
            case Action.SET_UP:
                await self._side.set_up(wanted(is_source=False))
            case Action.HOLD:
                await self._side.hold()
            case Action.EXPORT:
                await self._answers.close()
                await self._server.start()
                for node, name in self._exports:
                    await self._server.export(node, name, writable=True)
            case Action.TAKE_MEMORY:
                await self._lines.read_memory()
                self._watching = asyncio.create_task(self._watch())
            case Action.CLOSE_EXPORTS:
                await self._close_exports()
            case Action.RECORD_RUN:
                await self._side.write_record(self.id, self.where, self.phase.value, runs=self._runs)
            case Action.RECORD_REFUSED:
                if not self._remote.peer_has_ended:
                    await self._side.write_record(self.id, self.where, self.phase.value, runs=self._runs)
                self._refuses = True
            case Action.RUN:
                if self._runs:
                    begun = time.monotonic()
                    await self._continue()
                    self._starting_seconds = time.monotonic() - begun
            case Action.UNDO:
                await self._undo()
            case Action.TELL:
                self._tell_doubt()

    async def _continue(self) -> None:
        """``cont``. Raises CommandError."""
        try:
            await self.qemu("cont")
        except CommandError as error:
            self._may_run = self._may_run or is_lost(error)
            raise

    async def _close_exports(self) -> None:
        self._lines.end()
        if self._remote.peer_has_ended:
            self._server.forget()
            return
        try:
            await self._server.stop()
        except CommandError:
            if self.phase is not Phase.REFUSED:  # there its QEMU may have ended with them
                raise

    async def _undo(self) -> None:
        await self._answers.close()
        await self._lines.close()
        await self._server.stop()
        if self._is_taken_up:
            found = await remove_leftovers(self.qemu, self.id)
            if found:
                self._side.notice(f"Removed what the console that has ended had left: {found}")
        await self._side.let_go()
        await self._side.restore()
        if self.phase is not Phase.SETTLED:  # there its source may ask again
            self.id = ""

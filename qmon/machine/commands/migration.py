"""The migration commands (QAPI: migration.json), and how the machine's state follows a migration."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from typing import Any, TypeVar
from uuid import UUID

from qmon.errors import CommandError, reason
from qmon.host.logs import TOLD_BY_EVENT, TOLD_BY_MONITOR
from qmon.host.sockets import bind_failure, is_loopback, listen
from qmon.host.trace import MIGRATE_SET_STATE
from qmon.machine.commands.exports import ExportCommands
from qmon.machine.commands.migration_settings import UNDER_WAY, MigrationSettings
from qmon.machine.machine import NO_UUID, STOPPED, Machine
from qmon.machine.migration_info import (
    describe_incoming,
    describe_source,
    not_converging,
    qapi_address,
)
from qmon.machine.runstate import RunState
from qmon.machine.stays_behind import stays_behind
from qmon.migration.destination.incoming import Incoming
from qmon.migration.drive import GATE_REASON
from qmon.migration.journal import Entry, Journal
from qmon.migration.patience import Patience
from qmon.migration.phases import Phase, Role, Stand
from qmon.migration.source.gain import Stuck
from qmon.migration.source.outgoing import Source
from qmon.migration.states import Event
from qmon.migration.wire.offer import Mode
from qmon.migration.wire.transport import Transport, parse_uri
from qmon.notation.address import Address, InetAddress, UnixAddress
from qmon.notation.left_behind import sentence
from qmon.notation.way_back import WAY_BACK
from qmon.qmp.registry import command

log = logging.getLogger("qmon.machine")

LOOP_TIMEOUT = 10
"""Seconds that a data thread waits for an answer from the loop."""


NOT_CONVERGING = "X_QMON_MIGRATION_NOT_CONVERGING"

_T = TypeVar("_T")

_STANDING = frozenset({RunState.FINISH_MIGRATE, RunState.POSTMIGRATE})
"""The run states in which the destination may have the disks."""


class MigrationCommands:
    """The commands of the one outgoing and the one incoming migration that the machine can have."""

    def __init__(
        self,
        machine: Machine,
        exports: ExportCommands,
        journal: Journal,
        *,
        may_come_in: bool,
        patience: Patience,
    ) -> None:
        """``may_come_in`` says whether -incoming was given."""
        self._machine = machine
        self._journal = journal
        self._exports = exports
        self._may_come_in = may_come_in
        self._patience = patience
        self._resume = False
        # The phases that the loop has been told; they change together with the run state.
        self._source_phase = Phase.NONE
        self._incoming_phase = Phase.NONE
        self.settings = MigrationSettings(lambda: self.is_migrating, lambda: self._is_awaiting)
        self._told = ("", False)
        self._source: Source | None = None
        self._left: list[dict[str, Any]] = []
        """What the migration does not copy (``stays_behind``)."""
        self._turned_away: dict[str, int] = {}
        """By export: the clients that were disconnected at the handover."""
        self._incoming: Incoming | None = None
        self._listening: Address | None = None
        self._socket_address: dict[str, Any] = {}
        self._state_before = RunState.RUNNING
        self._stopping: asyncio.Future[None] | None = None
        self._end_trial: Callable[[], None] | None = None
        """Ends the trial that is under way."""
        self._trial_ended = asyncio.Event()
        machine.set_busy_check(self._busy)
        machine.before_run = self._forget_record

    def _busy(self, drive: str) -> str | None:
        incoming = Phase.NONE if self._incoming is None else self._incoming.phase
        phases = (self._source_phase, self._incoming_phase, incoming)
        is_busy = self._end_trial is not None or any(phase.is_under_way for phase in phases)
        return "migration" if is_busy else None

    def _forget_record(self) -> None:
        """Remove the source's record before the machine runs, so that a restart does not see a doubt."""
        if self._source is not None:
            self._source.forget()

    @property
    def is_migrating(self) -> bool:
        """Whether an outgoing migration is in progress."""
        return self._source_phase.is_under_way

    # The outgoing migration.

    @command("migrate")
    async def migrate(
        self,
        uri: str,
        blk: bool | None = None,
        inc: bool | None = None,
        detach: bool | None = None,
        resume: bool | None = None,
    ) -> dict[str, Any]:
        """Start a migration. ``detach`` is for HMP and has no effect here, as in QEMU."""
        if resume:
            raise CommandError("Cannot resume if there is no paused migration")
        self.check_may_start()
        transport = parse_uri(uri)
        mode = self.settings.begin(bool(blk), bool(inc))
        self._state_before = self._machine.state
        try:
            self._source = self._make_source(transport, mode)
        except MemoryError:
            self.settings.end()
            raise
        self._turned_away = {}
        self._left = stays_behind(self._machine.drives.values(), mode)
        for entry in self._left:
            log.warning("migration: %s", sentence(entry), extra=TOLD_BY_MONITOR)
        self._source_phase = Phase.SETUP
        self._source.start()
        return {}

    def check_may_start(self) -> None:
        """Raises CommandError if the machine's state does not allow an outgoing migration."""
        if self.is_migrating:
            raise CommandError(UNDER_WAY)
        if self._end_trial is not None:
            raise CommandError("A trial of a migration is under way: wait for its end, or migrate_cancel")
        match self._machine.state:
            case RunState.INMIGRATE:
                raise CommandError("Guest is waiting for an incoming migration")
            case RunState.POSTMIGRATE:
                raise CommandError("Can't migrate the vm that was paused due to previous migration")
        if not self._machine.drives:
            raise CommandError("The machine has no drives to migrate: add one with drive_add")
        self._machine.check_may_migrate()

    async def try_out(self, cancel: Callable[[], None], run: Callable[[], Awaitable[_T]]) -> _T:
        """Await ``run``, a trial; meanwhile the drives are busy. ``cancel`` ends it early, with an error."""
        self._end_trial, self._trial_ended = cancel, asyncio.Event()
        try:
            return await run()
        finally:
            self._end_trial = None
            self._trial_ended.set()

    @property
    def required_uuid(self) -> UUID | None:
        """The machine's UUID, if the destination must have the same."""
        return self._uuid if self.settings.capabilities["validate-uuid"] else None

    def _make_source(self, transport: Transport, mode: Mode, entry: Entry | None = None) -> Source:
        return Source(
            transport,
            mode,
            list(self._machine.drives.values()),
            self.settings.parameters,
            self._journal,
            on_phase=lambda phase: self._machine.post(lambda: self._on_source(phase)),
            on_stuck=lambda stuck: self._machine.post(lambda: self._on_stuck(stuck)),
            is_running=self._ran_before,
            entry=entry,
            uuid=self.required_uuid,
            empty=self._machine.empty_devices(),
            pause=self.settings.capabilities["pause-before-switchover"],
            patience=self._patience,
        )

    @property
    def _uuid(self) -> UUID | None:
        return None if self._machine.uuid == NO_UUID else UUID(self._machine.uuid)

    # After a restart.

    def stand_by(self, entry: Entry) -> None:
        """Continue a migration from its record after a restart. The drives are added but inactive."""
        machine = self._machine
        self._state_before = RunState.RUNNING if entry.resume and machine.autostart else RunState.PAUSED
        if entry.role is Role.DESTINATION:
            self._may_come_in = True
            self._incoming = self._make_incoming(entry)
            self._incoming_phase = self._incoming.phase
            if entry.stand is Stand.PREPARED:
                log.warning(
                    "migration %s has copied the disks and waits for its source to release them; if the"
                    " source does not run, migrate_resolve keep runs the machine here",
                    entry.id,
                )
            return
        for drive in machine.drives.values():
            drive.gate.close(GATE_REASON, 0)  # no request is inside yet
            if self._state_before is RunState.RUNNING:
                drive.gate.open(STOPPED)
        mode = Mode.SHARED if entry.shared else Mode.FULL
        self._source = self._make_source(parse_uri(entry.peer), mode, entry)
        self._source_phase = self._source.phase
        if entry.stand is Stand.GONE:
            machine.state = RunState.FINISH_MIGRATE
            log.warning("migration %s to %s: %s", entry.id, entry.peer, self._source.progress.error)
            self._source.start()
            return
        for drive in machine.drives.values():
            drive.gate.shut()  # a guest's request fails, so that it looks for its disk at the destination
        machine.state = RunState.POSTMIGRATE
        log.warning(
            "the disks were moved to %s by migration %s: this machine stays paused; %s",
            entry.peer,
            entry.id,
            WAY_BACK,
        )

    @command("x-qmon-migrate-resolve")
    async def resolve(self, action: str) -> dict[str, Any]:
        """Decide which side has the disks if it is in doubt: ``keep`` this one, ``release`` the other."""
        event = Event.KEEP if action == "keep" else Event.RELEASE
        side = self._source or self._incoming
        if side is None:
            raise CommandError("There is nothing to resolve: there was no migration")
        await self._machine.blocking(side.resolve, event)
        return {}

    def _ran_before(self) -> bool:
        """Return whether the machine ran before the switchover. The source's thread calls it."""
        answer: Future[bool] = Future()
        self._machine.post(lambda: answer.set_result(self._state_before is RunState.RUNNING))
        return answer.result(LOOP_TIMEOUT)

    def _on_source(self, phase: Phase) -> None:
        """Change the machine's state after a phase of the outgoing migration."""
        machine = self._machine
        if phase is Phase.CANCELLING and self._source_phase is Phase.CANCELLED:
            return  # two threads reported these phases, and the later one arrived first
        before, self._source_phase = self._source_phase, phase
        if not phase.is_under_way:
            self.settings.end()
        match phase:
            case Phase.PRE_SWITCHOVER | Phase.SWITCHOVER if before is not Phase.PRE_SWITCHOVER:
                self._state_before = machine.state
                machine.set_state(RunState.FINISH_MIGRATE)
            case Phase.ACTIVE if machine.state is RunState.FINISH_MIGRATE:
                machine.set_state(self._state_before)  # the switchover took too long
            case Phase.GONE:
                self._turned_away = self._exports.clients()
            case Phase.COMPLETED:
                machine.set_state(RunState.POSTMIGRATE)
                for name, clients in self._exports.clients().items():
                    self._turned_away[name] = max(clients, self._turned_away.get(name, 0))
                self._exports.drop_clients()
                for entry in self._left:
                    text = sentence(entry, is_over=True)
                    log.warning("migration completed: %s", text, extra=TOLD_BY_MONITOR)
            case Phase.FAILED | Phase.CANCELLED if machine.state in _STANDING:
                machine.set_state(self._state_before)
                if not all(drive.is_active for drive in machine.drives.values()):
                    # Without its images the machine can't run: stop it; cont tries to open them again.
                    self._stopping = asyncio.ensure_future(machine.stop())
        self._tell(phase)

    def _on_stuck(self, stuck: Stuck) -> None:
        advice = not_converging(stuck)
        rates = {"guest-write-rate": stuck.write_rate, "send-rate": stuck.send_rate}
        self._machine.registry.events.emit(NOT_CONVERGING, {**advice, **rates})
        log.warning(
            "the migration does not converge: %s; %s %d would do",
            stuck.reason,
            stuck.parameter,
            stuck.value,
            extra=TOLD_BY_EVENT,
        )

    @command("migrate_cancel")
    async def cancel(self) -> dict[str, Any]:
        if self._end_trial is not None:
            self._end_trial()
        elif self._source is not None:
            self._source.cancel()
        return {}

    @command("migrate-continue")
    async def go_on(self, state: str) -> dict[str, Any]:
        """End the pause before the switchover. Fails unless the migration is in the state ``state``."""
        if state != self._source_phase.status:
            raise CommandError(f"Migration not in expected state: {self._source_phase.status}")
        if self._source is not None and self._source_phase is Phase.PRE_SWITCHOVER:
            self._source.go_on()
        return {}

    @command("migrate-start-postcopy")
    async def start_postcopy(self) -> dict[str, Any]:
        """Fail, or do nothing if QEMU does nothing. Postcopy is for guest RAM, and there is none."""
        if not self.settings.capabilities["postcopy-ram"]:
            raise CommandError("Enable postcopy with migrate_set_capability before the start of migration")
        if self._source_phase is Phase.NONE:
            raise CommandError("Postcopy must be started after migration has been started")
        if self.is_migrating:
            raise CommandError("Postcopy is for guest RAM, and this machine has none")
        return {}

    # The incoming migration.

    @property
    def _is_awaiting(self) -> bool:
        return self._listening is not None and self._machine.state is RunState.INMIGRATE

    async def start_incoming(self, uri: str) -> None:
        """Listen for a migration. Raises CommandError."""
        address = parse_uri(uri).address
        self.settings.check_incoming()
        try:
            listener = await self._machine.blocking(listen, address)
        except OSError as error:
            raise CommandError(bind_failure(address, error)) from error
        where = qapi_address(listener)
        if self._incoming is None:
            self._incoming = self._make_incoming()
        try:
            self._incoming.listen(listener)
        except OSError as error:
            raise CommandError(reason(error)) from error
        self._listening, self._socket_address = address, where
        log.info("waiting for a migration on %s", address)
        if isinstance(address, InetAddress) and not is_loopback(listener):
            log.warning(
                "%s accepts migrations from the network without TLS: others on the network can read and"
                " replace the disks in transit",
                address,
            )

    def _make_incoming(self, entry: Entry | None = None) -> Incoming:
        return Incoming(
            lambda: list(self._machine.drives.values()),
            self._journal,
            start_machine=self._start_machine,
            on_phase=lambda phase: self._machine.post(lambda: self._on_incoming(phase)),
            entry=entry,
            uuid=self._uuid,
            empty=self._machine.empty_devices,
            patience=self._patience,
        )

    def _start_machine(self, running: bool) -> None:
        """Open the gates when the source has released the disks. Runs on a data thread."""
        self._resume = running and self._machine.autostart
        if self._resume:
            self._machine.open_gates()

    def _on_incoming(self, phase: Phase) -> None:
        incoming = self._incoming
        assert incoming is not None
        self._incoming_phase = phase
        if phase is Phase.COMPLETED and self._machine.state is RunState.INMIGRATE:
            self._machine.set_state(RunState.RUNNING if self._resume else RunState.PAUSED)
        self._tell(phase)

    @command("migrate-incoming")
    async def migrate_incoming(self, uri: str) -> dict[str, Any]:
        if not self._may_come_in:
            raise CommandError("'-incoming' was not specified on the command line")
        again = self._incoming is not None and self._incoming.phase is Phase.FAILED
        if self._machine.state is not RunState.INMIGRATE or (self._listening is not None and not again):
            raise CommandError("The incoming migration has already been started")
        if self._incoming is not None and self._listening is not None:
            await self._machine.blocking(self._incoming.unlisten)
            self._remove_socket()
            self._listening = None
        await self.start_incoming(uri)
        return {}

    # Both directions.

    def _tell(self, phase: Phase) -> None:
        """Emit MIGRATION if the status in QMP has changed, or if the result is in doubt now."""
        status = phase.status
        if (status, phase is Phase.DOUBT) != self._told:
            self._told = (status, phase is Phase.DOUBT)
            MIGRATE_SET_STATE("status=%s", status)
            told = self.settings.capabilities["events"]
            self._machine.registry.events.emit("MIGRATION", {"status": status}, private=not told)

    @command("query-migrate")
    async def query(self) -> dict[str, Any]:
        """Return a MigrationInfo of the outgoing or else the incoming migration, and where one is awaited."""
        info: dict[str, Any] = {}
        if self._source is not None:
            info = describe_source(self._source_phase, self._source)
            if self._left and self._source_phase not in (Phase.FAILED, Phase.CANCELLED):
                info["x-qmon-stays-behind"] = self._left
            if self._turned_away and self._source_phase is Phase.COMPLETED:
                info["x-qmon-turned-away"] = [
                    {"export": name, "clients": clients} for name, clients in self._turned_away.items()
                ]
        elif self._incoming is not None and self._incoming_phase is not Phase.NONE:
            info = describe_incoming(self._incoming_phase, self._incoming)
            drives = [name for name in self._machine.drives if not self._exports.exports_of(name)]
            if info["status"] == "completed" and drives:
                info["x-qmon-unreachable"] = {"drives": drives, "nbd-server": self._exports.is_serving}
        if self._is_awaiting:
            info["socket-address"] = [self._socket_address]
        return info

    async def close(self) -> None:
        """End the migrations: before GO they are cancelled, after GO the other side completes them."""
        if self._end_trial is not None:
            self._end_trial()
            await self._trial_ended.wait()
        if self._source is not None:
            with contextlib.suppress(CommandError):  # after GO it can't be cancelled
                self._source.cancel()
            if self._source.phase is not Phase.CANCELLING:
                self._source.leave()
            await self._machine.blocking(self._source.join, 5)
        if self._incoming is not None:
            await self._machine.blocking(self._incoming.stop)
            self._remove_socket()

    def _remove_socket(self) -> None:
        """Remove the path of a Unix socket that is not listened on any more."""
        if isinstance(self._listening, UnixAddress):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._listening.path)

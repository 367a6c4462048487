"""The migration commands (QAPI: migration.json), and what a migration does to the machine."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from concurrent.futures import Future
from typing import Any, Literal
from uuid import UUID

from qmon.errors import CommandError, reason
from qmon.host.logs import TOLD_BY_MONITOR
from qmon.host.sockets import bind_failure, is_loopback, listen
from qmon.host.trace import MIGRATE_SET_STATE
from qmon.machine.commands.exports import ExportCommands
from qmon.machine.commands.migration_settings import UNDER_WAY, MigrationSettings
from qmon.machine.machine import NO_UUID, STOPPED, Machine
from qmon.machine.migration_info import Status, describe, no_ram, qapi_address
from qmon.machine.runstate import RunState
from qmon.machine.stays_behind import stays_behind
from qmon.migration.destination.incoming import Incoming
from qmon.migration.drive import GATE_REASON
from qmon.migration.journal import Entry, Journal
from qmon.migration.patience import Patience
from qmon.migration.phases import Phase, Role, Stand
from qmon.migration.source.outgoing import Source
from qmon.migration.states import Event
from qmon.migration.wire.offer import Mode
from qmon.migration.wire.transport import Transport, parse_uri
from qmon.notation.address import Address, InetAddress, UnixAddress
from qmon.notation.left_behind import sentence
from qmon.qmp.registry import command

log = logging.getLogger("qmon.machine")

LOOP_TIMEOUT = 10
"""Seconds in which the loop must have answered a data thread."""


_STANDING = frozenset({RunState.FINISH_MIGRATE, RunState.POSTMIGRATE})
"""The run states of a machine whose disks may be the destination's."""


class MigrationCommands:
    """At most one migration out of this machine, and one into it."""

    def __init__(
        self,
        machine: Machine,
        exports: ExportCommands,
        journal: Journal,
        *,
        may_come_in: bool,
        patience: Patience,
    ) -> None:
        """``may_come_in`` is whether -incoming was given."""
        self._machine = machine
        self._journal = journal
        self._exports = exports
        self._may_come_in = may_come_in
        self._patience = patience
        self._resume = False
        # The phases as the loop has heard of them: with the run state, and not before.
        self._source_phase = Phase.NONE
        self._incoming_phase = Phase.NONE
        self.settings = MigrationSettings(lambda: self.is_migrating, lambda: self._is_awaiting)
        self._told = ("", False)
        self._source: Source | None = None
        self._left: list[dict[str, Any]] = []
        """What stays behind at the source."""
        self._incoming: Incoming | None = None
        self._listening: Address | None = None
        self._socket_address: dict[str, Any] = {}
        self._state_before = RunState.RUNNING
        self._stopping: asyncio.Future[None] | None = None
        machine.set_busy_check(self._busy)
        machine.before_run = self._forget_record

    def _busy(self, drive: str) -> str | None:
        incoming = Phase.NONE if self._incoming is None else self._incoming.phase
        phases = (self._source_phase, self._incoming_phase, incoming)
        return "migration" if any(phase.is_under_way for phase in phases) else None

    def _forget_record(self) -> None:
        """A restart must not take a machine that ran for one in doubt."""
        if self._source is not None:
            self._source.forget()

    @property
    def is_migrating(self) -> bool:
        """Whether a migration out of this machine is under way."""
        return self._source_phase.is_under_way

    # Out.

    @command("migrate")
    async def migrate(
        self,
        uri: str,
        blk: bool | None = None,
        inc: bool | None = None,
        detach: bool | None = None,
        resume: bool | None = None,
    ) -> dict[str, Any]:
        """Begin; ``detach`` is for the human side and means nothing here, as in QEMU."""
        if resume:
            raise CommandError("Cannot resume if there is no paused migration")
        if self.is_migrating:
            raise CommandError(UNDER_WAY)
        match self._machine.state:
            case RunState.INMIGRATE:
                raise CommandError("Guest is waiting for an incoming migration")
            case RunState.POSTMIGRATE:
                raise CommandError("Can't migrate the vm that was paused due to previous migration")
        if not self._machine.drives:
            raise CommandError("This machine has no drives: there is nothing to migrate")
        self._machine.check_may_migrate()
        transport = parse_uri(uri)
        mode = self.settings.begin(bool(blk), bool(inc))
        self._state_before = self._machine.state
        try:
            self._source = self._make_source(transport, mode)
        except MemoryError:
            self.settings.end()
            raise
        self._left = stays_behind(self._machine.drives.values(), mode)
        for entry in self._left:
            log.warning("migration: %s", sentence(entry), extra=TOLD_BY_MONITOR)
        self._source_phase = Phase.SETUP
        self._source.start()
        return {}

    def _make_source(self, transport: Transport, mode: Mode, entry: Entry | None = None) -> Source:
        return Source(
            transport,
            mode,
            list(self._machine.drives.values()),
            self.settings.parameters,
            self._journal,
            on_phase=lambda phase: self._machine.post(lambda: self._on_source(phase)),
            is_running=self._ran_before,
            entry=entry,
            uuid=self._uuid if self.settings.capabilities["validate-uuid"] else None,
            empty=self._machine.empty_devices(),
            pause=self.settings.capabilities["pause-before-switchover"],
            patience=self._patience,
        )

    @property
    def _uuid(self) -> UUID | None:
        return None if self._machine.uuid == NO_UUID else UUID(self._machine.uuid)

    # After a restart.

    def stand_by(self, entry: Entry) -> None:
        """Go on where a record says that a migration stands; the drives are there, and not active."""
        machine = self._machine
        self._state_before = RunState.RUNNING if entry.resume and machine.autostart else RunState.PAUSED
        if entry.role is Role.DESTINATION:
            self._may_come_in = True
            self._incoming = self._make_incoming(entry)
            self._incoming_phase = self._incoming.phase
            if entry.stand is Stand.PREPARED:
                log.warning(
                    "the disks have arrived by migration %s, and wait until its source lets go of them;"
                    " migrate_resolve keep runs here without it",
                    entry.id,
                )
            return
        for drive in machine.drives.values():
            drive.gate.close(GATE_REASON, 0)  # nobody is inside yet
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
            drive.gate.shut()  # a guest that asks here is to look for its disk over there
        machine.state = RunState.POSTMIGRATE
        log.warning(
            "the disks were handed over to %s by migration %s: this machine stands still;"
            " migrate_resolve keep runs it here all the same",
            entry.peer,
            entry.id,
        )

    @command("x-qmon-migrate-resolve")
    async def resolve(self, action: Literal["keep", "release"]) -> dict[str, Any]:
        """Decide whose the disks are, where the two sides can't settle it."""
        event = Event.KEEP if action == "keep" else Event.RELEASE
        side = self._source or self._incoming
        if side is None:
            raise CommandError("There is nothing to resolve: no migration is known")
        await self._machine.blocking(side.resolve, event)
        return {}

    def _ran_before(self) -> bool:
        """On the source's thread, at the switchover: whether the machine ran when the loop heard of it."""
        answer: Future[bool] = Future()
        self._machine.post(lambda: answer.set_result(self._state_before is RunState.RUNNING))
        return answer.result(LOOP_TIMEOUT)

    def _on_source(self, phase: Phase) -> None:
        """The machine follows its migration."""
        machine = self._machine
        if phase is Phase.CANCELLING and self._source_phase is Phase.CANCELLED:
            return  # two threads told of these, and the later phase came first
        before, self._source_phase = self._source_phase, phase
        if not phase.is_under_way:
            self.settings.end()
        match phase:
            case Phase.PRE_SWITCHOVER | Phase.SWITCHOVER if before is not Phase.PRE_SWITCHOVER:
                self._state_before = machine.state
                machine.set_state(RunState.FINISH_MIGRATE)
            case Phase.ACTIVE if machine.state is RunState.FINISH_MIGRATE:
                machine.set_state(self._state_before)  # the switchover took too long
            case Phase.COMPLETED:
                machine.set_state(RunState.POSTMIGRATE)
                self._exports.drop_clients()
                for entry in self._left:
                    text = sentence(entry, is_over=True)
                    log.warning("migration completed: %s", text, extra=TOLD_BY_MONITOR)
            case Phase.FAILED | Phase.CANCELLED if machine.state in _STANDING:
                machine.set_state(self._state_before)
                if not all(drive.is_active for drive in machine.drives.values()):
                    # Without its images it does not run, whatever it did: cont tries to open them again.
                    self._stopping = asyncio.ensure_future(machine.stop())
        self._tell(phase)

    @command("migrate_cancel")
    async def cancel(self) -> dict[str, Any]:
        if self._source is not None:
            self._source.cancel()
        return {}

    @command("migrate-continue")
    async def go_on(self, state: Status) -> dict[str, Any]:
        """End the pause at the switchover; ``state`` is the one that the migration must be in."""
        if state != self._source_phase.status:
            raise CommandError(f"Migration not in expected state: {self._source_phase.status}")
        if self._source is not None and self._source_phase is Phase.PRE_SWITCHOVER:
            self._source.go_on()
        return {}

    @command("migrate-start-postcopy")
    async def start_postcopy(self) -> dict[str, Any]:
        """Fails, but where QEMU does nothing: there is no guest RAM whose copying could be put off."""
        if not self.settings.capabilities["postcopy-ram"]:
            raise CommandError("Enable postcopy with migrate_set_capability before the start of migration")
        if self._source_phase is Phase.NONE:
            raise CommandError("Postcopy must be started after migration has been started")
        if self.is_migrating:
            raise CommandError("Postcopy is for guest RAM, of which this machine has none")
        return {}

    # In.

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
                "the migration comes in on %s, which is open to the network, without TLS: whoever reaches it"
                " can read and replace the disks on their way",
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
        """On a data thread, when the source has let go."""
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

    # What both share.

    def _tell(self, phase: Phase) -> None:
        """Emit the event, unless only what QMP shows as one status has changed; doubt is news."""
        status = phase.status
        if (status, phase is Phase.DOUBT) != self._told:
            self._told = (status, phase is Phase.DOUBT)
            MIGRATE_SET_STATE("status=%s", status)
            told = self.settings.capabilities["events"]
            self._machine.registry.events.emit("MIGRATION", {"status": status}, private=not told)

    @command("query-migrate")
    async def query(self) -> dict[str, Any]:
        """A MigrationInfo of the migration out, or else of the one in, and where one in is awaited."""
        info: dict[str, Any] = {}
        if self._source is not None:
            source = self._source
            info = describe(self._source_phase, source.progress)
            info["x-qmon-id"] = str(source.id)
            info["x-qmon-disks"] = [
                {"drive": name, "remaining": remaining, "total": size}
                for name, remaining, size in source.drive_figures
            ]
            if self._left and self._source_phase not in (Phase.FAILED, Phase.CANCELLED):
                info["x-qmon-stays-behind"] = self._left
            if source.progress.agreed is not None:
                info["ram"] = no_ram(source.progress)
        elif self._incoming is not None and self._incoming_phase is not Phase.NONE:
            info = describe(self._incoming_phase, self._incoming.progress)
        if self._is_awaiting:
            info["socket-address"] = [self._socket_address]
        return info

    async def close(self) -> None:
        """End what is under way: before GO it is cancelled, after it is left to the other side."""
        if self._source is not None:
            with contextlib.suppress(CommandError):  # after GO there is nothing to cancel
                self._source.cancel()
            if self._source.phase is not Phase.CANCELLING:
                self._source.leave()
            await self._machine.blocking(self._source.join, 5)
        if self._incoming is not None:
            await self._machine.blocking(self._incoming.stop)
            self._remove_socket()

    def _remove_socket(self) -> None:
        """Nobody listens any more: the path of a Unix socket goes."""
        if isinstance(self._listening, UnixAddress):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self._listening.path)

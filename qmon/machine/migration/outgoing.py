"""The outgoing migration of the machine: how it starts, ends, and continues after a restart."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

from qmon.block.bitmaps import DirtyBitmap
from qmon.errors import CommandError
from qmon.host.logs import TOLD_BY_EVENT, TOLD_BY_MONITOR
from qmon.machine.migration.bitmaps import MAPPING, travelling
from qmon.machine.migration.channels import wanted_channels
from qmon.machine.migration.info import describe_source, not_converging
from qmon.machine.migration.means import Means
from qmon.machine.migration.running_trial import RunningTrial
from qmon.machine.migration.settings import UNDER_WAY
from qmon.machine.migration.source_state import SourceRunState
from qmon.machine.migration.stays_behind import stays_behind
from qmon.machine.runstate import RunState
from qmon.migration.capabilities import BITMAPS, FORWARD, RECOVER
from qmon.migration.journal import Entry
from qmon.migration.phases import Phase, Stand
from qmon.migration.source.gain import Stuck
from qmon.migration.source.opening import Route
from qmon.migration.source.options import Hooks, Options
from qmon.migration.source.outgoing import Source
from qmon.migration.wire.offer import Mode
from qmon.migration.wire.transport import FilePlace, Place, parse_uri
from qmon.notation.left_behind import sentence
from qmon.notation.way_back import WAITING, WAY_BACK

log = logging.getLogger("qmon.machine")

NOT_CONVERGING = "X_QMON_MIGRATION_NOT_CONVERGING"
RESUME_HERE = "'migrate -r URI' continues it, migrate_cancel ends it"


class OutgoingMigration:
    """The current or the last one. For the loop."""

    def __init__(self, means: Means) -> None:
        self._machine = means.machine
        self._settings = means.settings
        self._places = means.places
        self._clients = means.clients
        self._journal = means.journal
        self._patience = means.patience
        self._tell = means.tell
        self.trial = RunningTrial()
        self.source: Source | None = None
        self.phase = Phase.NONE
        """The phase that the loop has been told; it changes together with the machine's run state."""
        self._state = SourceRunState(means.machine)
        self._left: list[dict[str, Any]] = []
        """What the migration does not copy (``stays_behind``)."""
        self._bitmaps: list[DirtyBitmap] = []
        """The dirty bitmaps that it takes along, which are in use meanwhile."""

    @property
    def is_under_way(self) -> bool:
        return self.phase.is_under_way

    def check_may_start(self) -> None:
        """Raises CommandError if the machine's state does not allow an outgoing migration."""
        if self.is_under_way:
            raise CommandError(UNDER_WAY)
        if self.trial.is_under_way:
            raise CommandError("A trial of a migration is under way: wait for its end, or migrate_cancel")
        match self._machine.state:
            case RunState.INMIGRATE:
                raise CommandError("Guest is waiting for an incoming migration")
            case RunState.POSTMIGRATE:
                raise CommandError("Can't migrate the vm that was paused due to previous migration")
        if not self._machine.drives:
            raise CommandError("The machine has no drives to migrate: add one with drive_add")
        self._machine.use.check_may_migrate(self._machine.drives.values())

    async def start(self, uri: str, *, blk: bool, inc: bool) -> None:
        """Start a migration to an address. Raises QmonError."""
        self.check_may_start()
        transport = parse_uri(uri)
        await self._places.check_destination(transport.place)
        self.check_may_start()  # again, because other commands may have run in between
        settings = self._settings
        mode = settings.begin(blk, inc)
        self._state.begin()
        try:
            options = self.options(mode, transport.place)
            self.source = self._make(self._places.route(transport), options)
        except BaseException:
            settings.end()
            raise
        self._clients.turned_away = {}
        self._bitmaps = [bitmap for bitmap, _ in options.bitmaps]
        self._left = self.left_behind(options)
        for bitmap in self._bitmaps:
            bitmap.busy = True
        for entry in self._left:
            log.warning("migration: %s", sentence(entry), extra=TOLD_BY_MONITOR)
        self.phase = Phase.SETUP
        self.source.start()

    async def resume(self, uri: str) -> None:
        """Let the paused migration go on, to an address. Raises QmonError."""
        if self.source is None or self.phase not in (Phase.PAUSED, Phase.DOUBT):
            raise CommandError("Cannot resume if there is no paused migration")
        transport = parse_uri(uri)
        if isinstance(transport.place, FilePlace):
            raise CommandError("A paused migration needs answers to go on, and a file gives none")
        await self._places.check_destination(transport.place, is_secured=self.source.has_tls)
        self.source.resume(self._places.route(transport))
        if self.phase is Phase.PAUSED:
            self.phase = Phase.RECOVER

    def options(self, mode: Mode, place: Place | None = None) -> Options:
        """Return what a migration to ``place``, or its trial, is asked to do. Raises CommandError.

        Without a place it goes on from a record: it has neither channels nor bitmaps.
        """
        capabilities, parameters = self._settings.capabilities, self._settings.parameters
        drives = list(self._machine.drives.values())
        takes_bitmaps = place is not None and capabilities[BITMAPS]
        return Options(
            mode,
            uuid=self._machine.known_uuid if capabilities["validate-uuid"] else None,
            empty=tuple(self._machine.disks.empty_devices()),
            pause_before_switchover=capabilities["pause-before-switchover"],
            auto_converge=capabilities["auto-converge"],
            forward=capabilities[FORWARD],
            recover=capabilities[RECOVER],
            return_path=capabilities["return-path"],
            multifd=None if place is None else wanted_channels(capabilities, parameters, place),
            bitmaps=tuple(travelling(drives, mode, parameters[MAPPING])) if takes_bitmaps else (),
        )

    def left_behind(self, options: Options) -> list[dict[str, Any]]:
        """Return what a migration with these options does not copy (``stays_behind``)."""
        return stays_behind(
            self._machine.drives.values(),
            options.mode,
            [bitmap for bitmap, _ in options.bitmaps],
            takes_bitmaps=self._settings.capabilities[BITMAPS],
        )

    def _make(self, route: Route, options: Options, entry: Entry | None = None) -> Source:
        machine = self._machine
        return Source(
            route,
            options,
            list(machine.drives.values()),
            self._settings.parameters,
            self._journal,
            Hooks(
                on_phase=lambda phase: machine.post(lambda: self._changed(phase)),
                on_stuck=lambda stuck: machine.post(lambda: self._does_not_converge(stuck)),
                is_running=self._state.ran_before,
                clients=self._clients.count,
                on_forwarded=self._clients.ended,
            ),
            entry,
            self._patience,
        )

    def stand_by(self, entry: Entry) -> None:
        """Continue a migration from its record after a restart. The drives are added but inactive."""
        machine = self._machine
        self._state.note_restart(ran=entry.resume)
        route = self._places.route_of(entry)
        if entry.stand is Stand.COPYING:
            self._continue(route, Mode(entry.mode), entry)
            log.warning("migration %s to %s is paused: %s", entry.id, entry.peer, RESUME_HERE)
            return
        source = self._continue(route, Mode.SHARED if entry.shared else Mode.FULL, entry)
        is_asking = entry.stand is Stand.GONE
        self._state.stand_still(RunState.FINISH_MIGRATE if is_asking else RunState.POSTMIGRATE)
        if is_asking:
            log.warning("migration %s to %s: %s", entry.id, entry.peer, source.progress.error)
            source.start()
            return
        if entry.stand is Stand.UNCONFIRMED:
            log.warning(
                "migration %s went to %s, which can't answer: this machine stays paused until cont",
                entry.id,
                entry.peer,
            )
            return
        for drive in machine.drives.values():
            drive.gate.shut()  # a guest's request fails, so that it looks for its disk at the destination
        log.warning(
            "the disks were moved to %s by migration %s: this machine stays paused; %s",
            entry.peer,
            entry.id,
            WAY_BACK,
        )

    def _continue(self, route: Route, mode: Mode, entry: Entry) -> Source:
        self.source = self._make(route, self.options(mode), entry)
        self.phase = self.source.phase
        return self.source

    def wait_for_resume(self) -> None:
        """Let a source that was paused before the restart take orders. Raises OSError."""
        if self.source is not None and self.source.phase is Phase.PAUSED:
            self.source.start()

    def go_on(self, status: str) -> None:
        """End the pause before the switchover. Raises CommandError in another status."""
        if status != self.phase.status:
            raise CommandError(f"Migration not in expected state: {self.phase.status}")
        if self.source is not None and self.phase is Phase.PRE_SWITCHOVER:
            self.source.go_on()

    def _changed(self, phase: Phase) -> None:
        """Follow a change of the source's phase."""
        if phase is Phase.CANCELLING and self.phase is Phase.CANCELLED:
            return  # two threads reported these phases, and the later one arrived first
        last, self.phase = self.phase, phase
        if not phase.is_under_way:
            self._settings.end()
            for bitmap in self._bitmaps:
                bitmap.busy = False
        self._state.follow(phase, last)
        if phase is Phase.GONE:
            self._clients.handed_over()
        if phase is Phase.COMPLETED:
            self._clients.begun()
            for entry in self._left:
                text = sentence(entry, is_over=True)
                log.warning("migration completed: %s", text, extra=TOLD_BY_MONITOR)
        self._tell(phase)

    def _does_not_converge(self, stuck: Stuck) -> None:
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

    def describe(self) -> dict[str, Any]:
        """Return its MigrationInfo, {} if there was none."""
        if self.source is None:
            return {}
        info = describe_source(self.phase, self.source)
        if self._left and self.phase not in (Phase.FAILED, Phase.CANCELLED):
            info["x-qmon-stays-behind"] = self._left
        turned_away = self._clients.turned_away
        if turned_away and self.phase is Phase.COMPLETED:
            info["x-qmon-turned-away"] = [
                {"export": name, "clients": clients} for name, clients in turned_away.items()
            ]
        waits = info.get("x-qmon-unconfirmed") and self._machine.state is RunState.POSTMIGRATE
        if waits and (clients := self._clients.count()):
            info[WAITING] = clients
        if sent_on := self._clients.sent_on():
            info["x-qmon-forwarded"] = sent_on
        return info

    def forget(self) -> None:
        """Remove the source's record before the machine runs, so that a restart does not see a doubt."""
        if self.source is not None:
            self.source.forget()

    async def close(self) -> None:
        """End it: before GO it is cancelled, after GO the destination completes it."""
        await self.trial.close()
        source = self.source
        if source is None:
            return
        if not source.can_resume:
            with contextlib.suppress(CommandError):  # after GO it can't be cancelled
                source.cancel()
        if source.phase is not Phase.CANCELLING:
            await self._machine.blocking(source.leave)
        await self._machine.blocking(source.join, 5)

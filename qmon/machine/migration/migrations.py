"""The one outgoing and the one incoming migration that a machine can have, and what concerns both."""

from __future__ import annotations

from collections.abc import Callable

from qmon.errors import CommandError
from qmon.host.trace import MIGRATE_SET_STATE
from qmon.machine.exports import Exports
from qmon.machine.machine import Machine
from qmon.machine.migration.clients import ForwardedClients
from qmon.machine.migration.incoming import IncomingMigration
from qmon.machine.migration.means import Means
from qmon.machine.migration.outgoing import OutgoingMigration
from qmon.machine.migration.places import Places
from qmon.machine.migration.recorder import MigrationRecorder
from qmon.machine.migration.security import MigrationSecurity
from qmon.machine.migration.settings import MigrationSettings
from qmon.migration.journal import Entry, Journal
from qmon.migration.patience import Patience
from qmon.migration.phases import Phase, Role, Stand
from qmon.migration.progress import Progress
from qmon.migration.states import Event


class Migrations:
    """For the loop."""

    def __init__(
        self,
        machine: Machine,
        exports: Exports,
        journal: Journal,
        *,
        may_come_in: bool,
        patience: Patience,
        take_named: Callable[[str], int],
    ) -> None:
        """``may_come_in`` says whether -incoming was given; ``take_named`` is for descriptors of getfd."""
        self._machine = machine
        self.settings = MigrationSettings()
        self.security = MigrationSecurity(self.settings.parameters, machine.objects)
        self.places = Places(machine, self.security, take_named)
        self.clients = ForwardedClients(
            machine, exports, lambda: self.outgoing.source, lambda: self.incoming.receiver
        )
        means = Means(
            machine,
            self.settings,
            self.security,
            self.places,
            self.clients,
            journal,
            patience,
            self._tell,
        )
        self.outgoing = OutgoingMigration(means)
        self.incoming = IncomingMigration(means, may_come_in=may_come_in)
        self._recorder = MigrationRecorder(machine, self._figures)
        self._told = ("", False)
        """The last status in QMP, and whether the result was in doubt."""
        machine.use.holder = self._busy
        machine.before_run = self.outgoing.forget

    def _busy(self, drive: str) -> str | None:
        outgoing = self.outgoing
        is_busy = outgoing.trial.is_under_way or outgoing.is_under_way or self.incoming.is_under_way
        return "migration" if is_busy else None

    @property
    def progress(self) -> Progress | None:
        """The progress of the migration that ``query-migrate`` shows, None if there is none."""
        if self.outgoing.source is not None:
            return self.outgoing.source.progress
        receiver = self.incoming.receiver
        return receiver.progress if receiver is not None and self.incoming.is_known else None

    def _figures(self) -> tuple[Progress, int] | None:
        source = self.outgoing.source
        written = 0 if source is None else source.observer.written
        return None if (progress := self.progress) is None else (progress, written)

    def _tell(self, phase: Phase) -> None:
        """Emit MIGRATION if the status in QMP has changed, or if the result is in doubt now."""
        self._recorder.note(is_under_way=phase.is_under_way)
        status = phase.status
        if (status, phase is Phase.DOUBT) != self._told:
            self._told = (status, phase is Phase.DOUBT)
            MIGRATE_SET_STATE("status=%s", status)
            told = self.settings.capabilities["events"]
            self._machine.registry.events.emit("MIGRATION", {"status": status}, private=not told)

    async def stand_by(self, entry: Entry) -> None:
        """Continue a migration from its record after a restart. The drives are added but inactive.

        Raises QmonError if the images of a paused migration can't be locked.
        """
        if entry.role is Role.DESTINATION:
            await self.incoming.stand_by(entry)
            self._recorder.note(is_under_way=self.incoming.phase.is_under_way)
            return
        self.outgoing.stand_by(entry)
        if entry.stand is Stand.GONE:
            self._recorder.note(is_under_way=True)

    async def cancel(self) -> None:
        """End a trial, else a migration. Raises CommandError after GO."""
        if self.outgoing.trial.is_under_way:
            self.outgoing.trial.cancel()
        elif self.outgoing.source is not None:
            self.outgoing.source.cancel()
        elif self.incoming.receiver is not None:
            await self._machine.blocking(self.incoming.receiver.cancel)

    async def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE which side has the disks. Raises CommandError if nothing is in doubt."""
        side = self.outgoing.source or self.incoming.receiver
        if side is None:
            raise CommandError("There is nothing to resolve: there was no migration")
        if event is Event.KEEP:
            await self.clients.cut_off("this side keeps the disks")
        await self._machine.blocking(side.resolve, event)

    async def close(self) -> None:
        """End the migrations: before GO they are cancelled, after GO the other side completes them."""
        self._recorder.stop()
        await self.outgoing.close()
        await self.incoming.close()

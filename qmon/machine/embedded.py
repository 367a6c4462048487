"""Builds the embedded machine: registers its commands, starts it and ends it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qmon.block.image_file import set_remote_files
from qmon.chardev.chardevs import Chardevs
from qmon.chardev.secure import Security
from qmon.errors import CommandError, Problems, QmonError
from qmon.host.exposure import Exposure
from qmon.host.logs import Log
from qmon.host.paths import why_unwritable
from qmon.machine.authorization import server_authorization
from qmon.machine.commands.absent import register_absent
from qmon.machine.commands.bitmaps import BitmapCommands
from qmon.machine.commands.block import BlockCommands
from qmon.machine.commands.block_jobs import BlockJobCommands
from qmon.machine.commands.chardevs import ChardevCommands
from qmon.machine.commands.create import CreateCommands
from qmon.machine.commands.debugging import DebugCommands
from qmon.machine.commands.exports import ExportCommands
from qmon.machine.commands.faults import FaultCommands
from qmon.machine.commands.fds import DescriptorCommands
from qmon.machine.commands.general import GeneralCommands
from qmon.machine.commands.jobs import JobCommands
from qmon.machine.commands.media import MediaCommands
from qmon.machine.commands.migration import MigrationCommands
from qmon.machine.commands.migration_settings import SettingsCommands
from qmon.machine.commands.migration_timeline import TimelineCommands
from qmon.machine.commands.migration_trial import TrialCommands
from qmon.machine.commands.nodes import NodeCommands
from qmon.machine.commands.objects import ObjectCommands
from qmon.machine.commands.overlays import OverlayCommands
from qmon.machine.commands.reopen import ReopenCommands
from qmon.machine.commands.running import RunningCommands
from qmon.machine.commands.snapshot_jobs import SnapshotJobs
from qmon.machine.commands.snapshots import SnapshotCommands
from qmon.machine.commands.transaction import TransactionCommands
from qmon.machine.credentials import find_credentials
from qmon.machine.exports import Exports
from qmon.machine.jobs.table import Jobs
from qmon.machine.machine import Machine
from qmon.machine.media import add_drive, close_drives
from qmon.machine.migration.migrations import Migrations
from qmon.machine.migration.records import decide
from qmon.machine.output_file import open_output_file
from qmon.machine.qemu_io.command import QemuIoCommands
from qmon.machine.runstate import RunState
from qmon.machine.snapshots import MachineSnapshots
from qmon.machine.user_object import UserObject
from qmon.migration.journal import Journal
from qmon.migration.patience import PATIENCE, Patience
from qmon.migration.wire.transport import DEFER
from qmon.nbd.open_exports import OpenExports
from qmon.notation.drive_options import DriveOptions
from qmon.notation.fd_options import AddFd
from qmon.qmp.registry import Registry

log = logging.getLogger("qmon.machine")


_CHARDEV_ENDPOINT = "Expected TLS credentials for a {side} endpoint"
"""QEMU's words, where others say ``Expecting TLS credentials with``."""


class EmbeddedMachine:
    """Create it on the loop. With ``incoming``, a URI or ``defer``, the machine waits for a migration."""

    def __init__(
        self,
        *,
        name: str | None = None,
        uuid: str | None = None,
        incoming: str | None = None,
        paused: bool = False,
        state_folder: Path,
        log: Log | None = None,
        patience: Patience = PATIENCE,
        exposure: Exposure | None = None,
    ) -> None:
        """``state_folder`` keeps the records of migrations; ``log`` is the process's log."""
        self._machine = Machine(name=name, uuid=uuid, exposure=exposure)
        objects = self._machine.objects
        exports = OpenExports(
            lambda id: find_credentials(objects, id, is_server=False), self._machine.exposure
        )
        set_remote_files(exports)
        self._incoming = incoming
        self._machine.autostart = not paused
        self._descriptors = DescriptorCommands()
        self._exports = Exports(self._machine, self._descriptors.take_named)
        self._jobs = Jobs(self._machine.registry.events)
        self._journal = Journal(state_folder)
        self._migrations = Migrations(
            self._machine,
            self._exports,
            self._journal,
            may_come_in=incoming is not None,
            patience=patience,
            take_named=self._descriptors.take_named,
        )
        self._records_folder = state_folder / "migration"
        self._log = Log() if log is None else log
        self._owns_log = log is None
        self.chardevs = Chardevs(
            lambda path: open_output_file(path, self._machine.disks.image_files()),
            self._descriptors.take_named,
            self._machine.exposure,
            self._chardev_security,
        )
        """The character devices: those of monitors and all others."""
        snapshots = MachineSnapshots(self._machine, self._exports.exports_of)
        migration = MigrationCommands(self._machine, self._exports, self._migrations)
        register_absent(self.registry)
        overlays = OverlayCommands(self._machine, self._exports)
        for family in (
            GeneralCommands(self._machine),
            ExportCommands(self._machine, self._exports),
            BlockCommands(self._machine, self._exports),
            MediaCommands(self._machine, self._exports),
            BitmapCommands(self._machine),
            TransactionCommands(self._machine, overlays),
            NodeCommands(self._machine, self._exports),
            ReopenCommands(self._machine, self._exports),
            SnapshotCommands(self._machine, snapshots),
            SnapshotJobs(snapshots, self._jobs),
            overlays,
            JobCommands(self._jobs),
            CreateCommands(self._machine, self._exports, self._jobs),
            BlockJobCommands(self._machine, self._jobs),
            QemuIoCommands(self._machine),
            migration,
            SettingsCommands(self._migrations),
            TrialCommands(self._machine, self._migrations, patience),
            TimelineCommands(self._machine, self._migrations, migration),
            FaultCommands(self._machine),
            ObjectCommands(self._machine),
            self._descriptors,
            ChardevCommands(self.chardevs),
            DebugCommands(self._machine, self._log),
            RunningCommands(self._machine),
        ):
            self.registry.add_from(family)

    def _chardev_security(self, creds: str, authz: str | None, is_server: bool) -> Security:
        """Return the TLS of a character device (``chardev.secure.FindSecurity``). Raises CommandError."""
        objects = self._machine.objects
        tls = find_credentials(objects, creds, is_server=is_server, other_end=_CHARDEV_ENDPOINT)
        return Security(tls, server_authorization(objects, tls, authz) if is_server else None)

    @property
    def registry(self) -> Registry:
        """The Target that a monitor's commands go to."""
        return self._machine.registry

    @property
    def objects(self) -> Mapping[str, UserObject]:
        """The objects that users have created, by their ids."""
        return self._machine.objects

    def add_descriptors(self, options: Sequence[AddFd]) -> None:
        """Take inherited descriptors over into sets. Raises CommandError naming the option."""
        self._descriptors.add_all_inherited(options)

    async def start(self, drives: Sequence[DriveOptions], may_run: Callable[[], bool] = lambda: True) -> None:
        """Open the drives, then run, wait for the migration or stay paused, unless ``may_run`` returns False.

        If a record says that a migration of these drives is not settled, the machine does not run. Raises
        CommandError, or ProblemsError of several drives.
        """
        machine, migrations, waits = self._machine, self._migrations, self._incoming is not None
        machine.state = RunState.INMIGRATE  # so that images are not locked before the records are read
        problems = Problems()
        for settings in drives:
            if settings.is_resting:
                machine.disks.nodes.rest(replace(settings, is_resting=False))
                continue
            with problems.noting():
                await add_drive(machine, settings)
        problems.check()
        if not may_run():
            return
        verdict = await machine.blocking(
            decide, self._journal, list(machine.drives.values()), may_come_in=waits
        )
        if drives:
            await self._check_state_folder()
        if (entry := verdict.continued) is not None:
            await migrations.stand_by(entry)
        if not waits and not verdict.is_held:
            machine.state = RunState.PRELAUNCH
        if machine.state is RunState.PRELAUNCH or verdict.runs_again:
            await machine.activate()
            if machine.autostart:
                await machine.run()
        migrations.outgoing.wait_for_resume()
        if self._incoming not in (None, DEFER) and verdict.takes_another:
            try:
                await migrations.incoming.start(self._incoming)
            except QmonError as error:
                raise CommandError(f"-incoming {self._incoming}: {error}") from error

    async def _check_state_folder(self) -> None:
        why = await self._machine.blocking(why_unwritable, self._records_folder)
        if why is not None:
            log.warning(
                "migrations will fail, because their records can't be written: %s; give another folder with"
                " -statedir",
                why,
            )

    def request_quit(self) -> None:
        """End the process soon, like the command ``quit``."""
        self._machine.request_quit()

    async def wait_quit(self) -> None:
        """Wait until a quit has been requested."""
        await self._machine.quit_requested.wait()

    @property
    def is_quitting(self) -> bool:
        return self._machine.quit_requested.is_set()

    @property
    def why_broken_off(self) -> str:
        """Why its scripts fail at its end, apart from the line that runs."""
        return ""

    def open_appending(self, path: str) -> int:
        """Open a file for appending and return its descriptor; may block.

        Raises OSError, also for a disk image in use, and ValueError for a null byte in the path.
        """
        return open_output_file(path, self._machine.disks.image_files(), os.O_APPEND)

    async def close(self) -> None:
        """Close monitors, jobs, migration, exports and drives, in this order."""
        await self.chardevs.close()
        await self._jobs.close()
        await self._migrations.close()
        await self._exports.close()
        await close_drives(self._machine)
        await self._machine.close()
        self._descriptors.close()
        if self._owns_log:
            self._log.close()

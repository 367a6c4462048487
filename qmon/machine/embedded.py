"""Builds the embedded machine: registers its commands, starts it and ends it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from qmon.chardev.chardevs import Chardevs
from qmon.errors import CommandError, Problems, QmonError
from qmon.host.logs import Log
from qmon.host.paths import why_unwritable
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
from qmon.machine.commands.migration_trial import TrialCommands
from qmon.machine.commands.nodes import NodeCommands
from qmon.machine.commands.objects import ObjectCommands
from qmon.machine.commands.overlays import OverlayCommands
from qmon.machine.commands.reopen import ReopenCommands
from qmon.machine.commands.running import RunningCommands
from qmon.machine.commands.snapshot_jobs import SnapshotJobs
from qmon.machine.commands.snapshots import SnapshotCommands
from qmon.machine.commands.transaction import TransactionCommands
from qmon.machine.jobs.table import Jobs
from qmon.machine.machine import Machine
from qmon.machine.output_file import open_output_file
from qmon.machine.qemu_io.command import QemuIoCommands
from qmon.machine.restart import find_record
from qmon.machine.runstate import RunState
from qmon.machine.snapshots import MachineSnapshots
from qmon.machine.user_object import UserObject
from qmon.migration.journal import Journal, JournalError
from qmon.migration.patience import PATIENCE, Patience
from qmon.migration.phases import Stand
from qmon.migration.wire.transport import DEFER
from qmon.notation.drive_options import DriveOptions
from qmon.notation.fd_options import AddFd
from qmon.qmp.registry import Registry

log = logging.getLogger("qmon.machine")


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
    ) -> None:
        """``state_folder`` keeps the records of migrations; ``log`` is the process's log."""
        self._machine = Machine(name=name, uuid=uuid)
        self._incoming = incoming
        self._machine.autostart = not paused
        self._exports = ExportCommands(self._machine)
        self._jobs = Jobs(self._machine.registry.events)
        self._journal = Journal(state_folder)
        self._migration = MigrationCommands(
            self._machine,
            self._exports,
            self._journal,
            may_come_in=incoming is not None,
            patience=patience,
        )
        self._records_folder = state_folder / "migration"
        self._descriptors = DescriptorCommands()
        self._log = Log() if log is None else log
        self._owns_log = log is None
        self.chardevs = Chardevs(
            lambda path: open_output_file(path, self._machine.image_files()),
            self._descriptors.take_named,
        )
        """The character devices: those of monitors and all others."""
        snapshots = MachineSnapshots(self._machine, self._exports.exports_of)
        register_absent(self.registry)
        overlays = OverlayCommands(self._machine, self._exports)
        for family in (
            GeneralCommands(self._machine),
            self._exports,
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
            self._migration,
            self._migration.settings,
            TrialCommands(self._machine, self._migration, patience),
            FaultCommands(self._machine),
            ObjectCommands(self._machine),
            self._descriptors,
            ChardevCommands(self.chardevs),
            DebugCommands(self._machine, self._log),
            RunningCommands(self._machine),
        ):
            self.registry.add_from(family)

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
        machine, migration, waits = self._machine, self._migration, self._incoming is not None
        machine.state = RunState.INMIGRATE  # so that images are not locked before the records are read
        problems = Problems()
        for settings in drives:
            if settings.is_resting:
                machine.nodes.rest(replace(settings, is_resting=False))
                continue
            with problems.noting():
                await machine.add_drive(settings)
        problems.check()
        if not may_run():
            return
        try:
            entry = await machine.blocking(
                find_record, self._journal, list(machine.drives.values()), may_come_in=waits
            )
        except JournalError as error:
            raise CommandError(str(error)) from error
        if drives:
            await self._check_state_folder()
        stand = None if entry is None else entry.stand
        is_held = stand is not None and (stand.is_waiting or (stand is Stand.MOVED and not waits))
        runs_again = stand is not None and stand.runs_again and waits
        if entry is not None and (is_held or runs_again or (stand is Stand.REFUSED and waits)):
            migration.stand_by(entry)
        if not waits and not is_held:
            machine.state = RunState.PRELAUNCH
        if machine.state is RunState.PRELAUNCH or runs_again:
            await machine.activate()
            if machine.autostart:
                await machine.run()
        if self._incoming is not None and self._incoming != DEFER and stand is not Stand.GONE:
            try:
                await migration.start_incoming(self._incoming)
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
        return open_output_file(path, self._machine.image_files(), os.O_APPEND)

    async def close(self) -> None:
        """Close monitors, jobs, migration, exports and drives, in this order."""
        await self.chardevs.close()
        await self._jobs.close()
        await self._migration.close()
        await self._exports.close()
        await self._machine.close()
        self._descriptors.close()
        if self._owns_log:
            self._log.close()

"""The commands of internal snapshots, of one drive and of the whole machine (QAPI: block-core.json)."""

from __future__ import annotations

import logging
import time
from typing import Any

from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.machine.holding import holding
from qmon.machine.images import snapshot_info
from qmon.machine.internal_snapshot_action import InternalSnapshot
from qmon.machine.machine import Machine
from qmon.machine.snapshots import (
    NO_VMSTATE,
    SNAPSHOT,
    MachineSnapshots,
    can_have_snapshots,
    delete,
)
from qmon.machine.transaction import run_actions
from qmon.qmp.registry import command

log = logging.getLogger("qmon.snapshots")


class SnapshotCommands:
    """``x-qmon-`` commands are HMP's savevm, loadvm and delvm, which QMP has as jobs only."""

    def __init__(self, machine: Machine, snapshots: MachineSnapshots) -> None:
        self._machine = machine
        self._snapshots = snapshots

    @command("blockdev-snapshot-internal-sync")
    async def snapshot_internal(self, device: str, name: str) -> dict[str, Any]:
        await run_actions(self._machine, [InternalSnapshot(self._machine, device, name)], SNAPSHOT)
        return {}

    @command("blockdev-snapshot-delete-internal-sync")
    async def snapshot_delete(
        self, device: str, id: str | None = None, name: str | None = None
    ) -> dict[str, Any]:
        """Delete a snapshot. Returns its SnapshotInfo."""
        drive = self._machine.disks.root(device)
        if id is None and name is None:
            raise CommandError("Name or id must be provided")
        if not can_have_snapshots(drive):
            raise CommandError("Failed to get a snapshot list: Operation not supported")
        async with holding(self._machine, [drive], SNAPSHOT):
            found = next(
                (each for each in drive.snapshots if id in (None, each.id) and name in (None, each.name)),
                None,
            )
            if found is None:
                raise CommandError(
                    f"Snapshot with id '{'null' if id is None else id}' and name"
                    f" '{'null' if name is None else name}' does not exist on device '{device}'"
                )
            if drive.read_only:
                raise CommandError(f"Device '{device}' is read only")
            try:
                await self._machine.blocking(delete, drive, [found])
            except OSError as error:
                raise CommandError(
                    f"Failed to delete snapshot '{found.name}' on device '{device}': {reason(error)}"
                ) from error
        return snapshot_info(found)

    @command("x-qmon-savevm")
    async def savevm(self, name: str | None = None) -> dict[str, Any]:
        """Take a snapshot of all drives at the same moment."""
        drives = self._all_drives()
        now_ns = time.time_ns()
        if name is None:
            name = time.strftime("vm-%Y%m%d%H%M%S", time.localtime(now_ns // 1_000_000_000))
        await self._snapshots.take(drives, name, now_ns)
        return {}

    @command("x-qmon-loadvm")
    async def loadvm(self, name: str) -> dict[str, Any]:
        """Load a snapshot of all drives."""
        await self._snapshots.load(self._all_drives(), name)
        return {}

    def _all_drives(self) -> list[Drive]:
        drives = self._snapshots.all_drives()
        if not drives:
            raise CommandError(NO_VMSTATE)
        return drives

    @command("x-qmon-delvm")
    async def delvm(self, name: str) -> dict[str, Any]:
        """Delete a snapshot of all drives. Succeeds even if no drive has it."""
        await self._snapshots.delete(self._snapshots.all_drives(), name)
        return {}

    @command("x-qmon-query-snapshots")
    async def query_snapshots(self) -> list[dict[str, Any]]:
        """Return the snapshots of each drive that can have any. Raises CommandError if no drive can."""
        drives = self._machine.drives.values()
        able = [drive for drive in drives if can_have_snapshots(drive) and not drive.read_only]
        if not able:
            raise CommandError(NO_VMSTATE)
        return [
            {"device": drive.id, "snapshots": [snapshot_info(each) for each in drive.layers[0].snapshots]}
            for drive in able
        ]

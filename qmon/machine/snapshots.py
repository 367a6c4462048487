"""The commands of snapshots, of disks and of the whole machine (QAPI: block-core.json): what is refused.

No image format is written here yet that has snapshots or a backing file.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from qmon.block.image import FORMATS
from qmon.errors import CommandError, DeviceNotFoundError, reason
from qmon.machine.images import snapshot_info
from qmon.machine.machine import Machine
from qmon.qmp.registry import command

NO_VMSTATE = "no block device can store vmstate for snapshot"
_WITH_SNAPSHOTS = frozenset({"qcow2"})


class SnapshotCommands:
    """``x-qmon-`` are what QEMU's monitor has and QMP has no command for."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("blockdev-snapshot-sync")
    async def snapshot(
        self,
        snapshot_file: str,
        device: str | None = None,
        node_name: str | None = None,
        snapshot_node_name: str | None = None,
        format: str | None = None,
        mode: Literal["existing", "absolute-paths"] | None = None,
    ) -> dict[str, Any]:
        drive = self._machine.find_drive(device, node_name)
        wanted = format or "qcow2"
        if wanted not in FORMATS:
            raise CommandError(f"Unknown file format '{wanted}'")
        self._machine.check_not_busy(drive)
        if wanted == "raw":
            raise CommandError("Backing file not supported for file format 'raw'")
        existing = mode == "existing"
        try:
            await self._machine.blocking(
                os.stat, snapshot_file if existing else os.path.dirname(snapshot_file) or "."
            )
        except (OSError, ValueError) as error:
            verb = "open" if existing else "create"
            raise CommandError(f"Could not {verb} '{snapshot_file}': {reason(error)}") from error
        raise CommandError("blockdev-snapshot-sync: overlays are not put on a running disk here yet")

    @command("blockdev-snapshot-internal-sync")
    async def snapshot_internal(self, device: str, name: str) -> dict[str, Any]:
        drive = self._machine.drive(device)
        if drive.read_only:
            raise CommandError(f"Device '{device}' is read only")
        if drive.format not in _WITH_SNAPSHOTS:
            raise CommandError(
                f"Block format '{drive.format}' used by device '{device}' does not support internal snapshots"
            )
        if not name:
            raise CommandError("Name is empty")
        raise CommandError("blockdev-snapshot-internal-sync: internal snapshots are not supported here yet")

    @command("blockdev-snapshot-delete-internal-sync")
    async def snapshot_delete(
        self, device: str, id: str | None = None, name: str | None = None
    ) -> dict[str, Any]:
        drive = self._machine.drive(device)
        if id is None and name is None:
            raise CommandError("Name or id must be provided")
        if drive.format not in _WITH_SNAPSHOTS:
            raise CommandError("Failed to get a snapshot list: Operation not supported")
        raise CommandError(
            "blockdev-snapshot-delete-internal-sync: internal snapshots are not supported here yet"
        )

    @command("x-qmon-savevm")
    async def savevm(self, name: str | None = None) -> dict[str, Any]:
        self._check_snapshots(needs_vmstate=True)
        raise CommandError("savevm: internal snapshots are not supported here yet")

    @command("x-qmon-loadvm")
    async def loadvm(self, name: str) -> dict[str, Any]:
        self._check_snapshots(needs_vmstate=True)
        raise CommandError("loadvm: internal snapshots are not supported here yet")

    @command("x-qmon-delvm")
    async def delvm(self, name: str) -> dict[str, Any]:
        """Where no image could hold the snapshot, it is gone already."""
        if self._check_snapshots(needs_vmstate=False):
            raise CommandError("delvm: internal snapshots are not supported here yet")
        return {}

    def _check_snapshots(self, *, needs_vmstate: bool) -> bool:
        """Whether any image can hold snapshots. Raises CommandError in QEMU's words."""
        writable = [drive for drive in self._machine.drives.values() if not drive.read_only]
        for drive in writable:
            if drive.format not in _WITH_SNAPSHOTS:
                raise CommandError(f"Device '{drive.id}' is writable but does not support snapshots")
        if needs_vmstate and not writable:
            raise CommandError(NO_VMSTATE)
        return bool(writable)

    @command("x-qmon-query-snapshots")
    async def query_snapshots(self) -> list[dict[str, Any]]:
        """The snapshots of each drive that can hold one, by drive. Raises CommandError where none can."""
        drives = self._machine.drives.values()
        able = [drive for drive in drives if drive.format in _WITH_SNAPSHOTS and not drive.read_only]
        if not able:
            raise CommandError(NO_VMSTATE)
        return [
            {"device": drive.id, "snapshots": [snapshot_info(each) for each in drive.layers[0].snapshots]}
            for drive in able
        ]

    @command("x-qmon-commit")
    async def commit(self, device: str) -> dict[str, Any]:
        """Write what an overlay holds to its backing image; ``all``: of each drive that has one."""
        machine = self._machine
        if device == "all":
            drives = list(machine.drives.values())
        elif device not in machine.devices:
            raise DeviceNotFoundError(device)
        else:
            drives = [machine.medium_of(device)]
        for drive in drives:
            if drive.format == "raw" and device != "all":
                raise CommandError(f"'commit' error for '{device}': Operation not supported")
            if drive.format != "raw":
                raise CommandError("commit: overlays are not written to their backing images here yet")
        return {}

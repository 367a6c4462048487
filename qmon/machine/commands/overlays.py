"""Snapshots by a new overlay, and commits of an overlay to its backing image (QAPI: block-core.json)."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError, DeviceNotFoundError, reason
from qmon.machine.conflicts import backing_of
from qmon.machine.drive import Drive
from qmon.machine.exports import Exports
from qmon.machine.holding import holding
from qmon.machine.machine import Machine
from qmon.machine.overlay_actions import SNAPSHOT, SnapshotToFile, SnapshotToNode
from qmon.machine.transaction import run_actions
from qmon.qmp.registry import command

COMMIT = "commit"


class OverlayCommands:
    """Commands about overlays. ``x-qmon-commit`` is HMP's commit, which QMP does not have."""

    def __init__(self, machine: Machine, exports: Exports) -> None:
        self._machine = machine
        self._exports = exports

    @command("blockdev-snapshot")
    async def put_node(self, node: str, overlay: str) -> dict[str, Any]:
        await run_actions(self._machine, [self.to_node(node, overlay)], SNAPSHOT)
        return {}

    @command("change-backing-file")
    async def change_backing_file(
        self, device: str, image_node_name: str, backing_file: str
    ) -> dict[str, Any]:
        """Write another name of its backing image into a drive's topmost image. The format's name stays."""
        machine = self._machine
        drive = machine.disks.root(device)
        owner, node = machine.disks.find_node(None, image_node_name)
        number = owner.names.layer_of(node)
        if number is None or number + 1 >= len(owner.layers):
            raise CommandError("not allowing backing file change on an image without a backing file")
        if owner is not drive:
            raise CommandError(f"'{device}' and image file are not in the same chain")
        if number > 0:
            raise backing_of(image_node_name, drive.names.pairs[number - 1][0])
        try:
            async with holding(machine, [drive], "change-backing-file"):
                await machine.blocking(drive.overlays.change_backing_name, backing_file)
        except OSError as error:
            why = f"Could not change backing file to '{backing_file}': {reason(error)}"
            raise CommandError(why) from error
        return {}

    def to_node(self, node: str, overlay: str) -> SnapshotToNode:
        """Return the action of ``blockdev-snapshot``."""

        def is_exported(drive: Drive) -> bool:
            return bool(self._exports.exports_of(drive.id))

        return SnapshotToNode(self._machine, is_exported, node, overlay)

    @command("blockdev-snapshot-sync")
    async def snapshot(
        self,
        snapshot_file: str,
        device: str | None = None,
        node_name: str | None = None,
        snapshot_node_name: str | None = None,
        format: str | None = None,
        mode: str | None = None,
    ) -> dict[str, Any]:
        action = SnapshotToFile(
            self._machine, snapshot_file, device, node_name, snapshot_node_name, format, mode
        )
        await run_actions(self._machine, [action], SNAPSHOT)
        return {}

    @command("x-qmon-commit")
    async def commit(self, device: str) -> dict[str, Any]:
        """Write an overlay's data to its backing image; ``all`` means every drive with an overlay."""
        machine = self._machine
        if device == "all":
            drives = [drive for drive in machine.drives.values() if len(drive.layers) > 1]
        elif device not in machine.disks.devices:
            raise DeviceNotFoundError(device)
        else:
            drives = [machine.disks.medium_of(device)]
        for drive in drives:
            await self._commit(drive, device)
        return {}

    async def _commit(self, drive: Drive, asked: str) -> None:
        try:
            if len(drive.layers) > 1 and drive.read_only:
                raise PermissionError("Operation not permitted")
            async with holding(self._machine, [drive], COMMIT):
                await self._machine.blocking(drive.commit)
        except (OSError, CommandError) as error:
            raise CommandError(f"'commit' error for '{asked}': {reason(error)}") from error

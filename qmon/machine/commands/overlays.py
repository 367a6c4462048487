"""Snapshots by a new overlay, and commits of an overlay to its backing image (QAPI: block-core.json)."""

from __future__ import annotations

import itertools
import os
from dataclasses import replace
from typing import Any

from qmon.block.image import FORMATS
from qmon.block.qcow2.header import Qcow2Error
from qmon.errors import CommandError, DeviceNotFoundError, reason
from qmon.machine.commands.exports import ExportCommands
from qmon.machine.conflicts import backing_of
from qmon.machine.drive import Drive
from qmon.machine.holding import holding
from qmon.machine.machine import Machine
from qmon.notation.file_names import is_same_file, without_protocol
from qmon.notation.node_names import refusal
from qmon.qmp.registry import command

SNAPSHOT = "snapshot"
COMMIT = "commit"


class OverlayCommands:
    """Commands about overlays. ``x-qmon-commit`` is HMP's commit, which QMP does not have."""

    def __init__(self, machine: Machine, exports: ExportCommands) -> None:
        self._machine = machine
        self._exports = exports

    @command("blockdev-snapshot")
    async def put_node(self, node: str, overlay: str) -> dict[str, Any]:
        """Continue in an overlay that is a node already. Unlike QEMU, it must be empty."""
        machine = self._machine
        drive = self._topmost(node, node)
        top, lower = machine.find_node(overlay, overlay)
        if top is drive or lower is not None or not top.settings.is_node or self._exports.exports_of(top.id):
            raise CommandError("The overlay is already in use")
        if len(top.layers) > 1:
            raise CommandError("The overlay already has a backing image")
        if top.format != "qcow2" or top.has_filter:
            raise CommandError("The overlay does not support backing images")
        machine.check_not_busy(drive)
        self._check_lasts(drive)
        settings, former, below = top.settings_to_keep, drive.settings_to_keep, drive.shown_node_name
        with machine.changing(top, SNAPSHOT):
            del machine.devices[top.id]
            await machine.put_away(top)
            try:
                async with holding(machine, [drive], SNAPSHOT):
                    await machine.blocking(
                        drive.put_overlay, settings.file, create=False, name=overlay, node=settings
                    )
                    machine.nodes.note(drive)
            except (OSError, CommandError) as error:
                await machine.add_drive(settings)
                if isinstance(error, CommandError):
                    raise
                raise CommandError(f"Could not use '{overlay}' as overlay: {reason(error)}") from error
        if former.is_node and former.id == below:
            machine.rename(drive, overlay)
            machine.nodes.rest(former)
        else:
            machine.nodes.rest(replace(settings, backing=drive.settings.backing))
        machine.nodes.freeze(below)
        return {}

    @command("change-backing-file")
    async def change_backing_file(
        self, device: str, image_node_name: str, backing_file: str
    ) -> dict[str, Any]:
        """Write another name of its backing image into a drive's topmost image. The format's name stays."""
        machine = self._machine
        drive = machine.root(device)
        owner, node = machine.find_node(None, image_node_name)
        number = owner.layer_of(node)
        if number is None or number + 1 >= len(owner.layers):
            raise CommandError("not allowing backing file change on an image without a backing file")
        if owner is not drive:
            raise CommandError(f"'{device}' and image file are not in the same chain")
        if number > 0:
            raise backing_of(image_node_name, drive.node_names[number - 1][0])
        try:
            async with holding(machine, [drive], "change-backing-file"):
                await machine.blocking(drive.change_backing_name, backing_file)
        except OSError as error:
            why = f"Could not change backing file to '{backing_file}': {reason(error)}"
            raise CommandError(why) from error
        return {}

    def _topmost(self, device: str | None, node_name: str | None) -> Drive:
        """Return a drive by its id or its topmost node. Raises CommandError if the node is below another."""
        try:
            return self._machine.find_drive(device, node_name)
        except CommandError:
            for drive in self._machine.drives.values():
                for (above, _), (below, _) in itertools.pairwise(drive.node_names):
                    if node_name == below:
                        raise backing_of(below, above) from None
            raise

    def _check_lasts(self, drive: Drive) -> None:
        if drive.is_temporary:
            raise CommandError(
                f"drive '{drive.id}' writes to a temporary overlay (snapshot=on), on which no other can rest:"
                " start without snapshot"
            )

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
        """Continue in an overlay on the drive's image.

        Unlike QEMU, an existing overlay must be empty and on this image, and no file is overwritten.
        """
        machine = self._machine
        drive = self._topmost(device, node_name)
        if node_name is not None and snapshot_node_name is None:
            raise CommandError("New overlay node-name missing")
        file = without_protocol(snapshot_file)
        existing = mode == "existing"
        self._check_format(format or "qcow2", existing=existing)
        machine.check_not_busy(drive)
        self._check_lasts(drive)
        if snapshot_node_name is not None:
            self._check_node_name(snapshot_node_name, drive)
        verb = "open" if existing else "create"
        try:
            if await machine.blocking(is_same_file, file, drive.image):
                raise CommandError(
                    f"Could not open '{file}': it is the drive's image itself"
                    if existing
                    else "Error: Trying to create an image with the same filename as the backing file"
                )
            looked_at = file if existing else os.path.dirname(file) or "."
            await machine.blocking(os.stat, looked_at)
            async with holding(machine, [drive], SNAPSHOT):
                below = drive.shown_node_name
                await machine.blocking(drive.put_overlay, file, create=not existing, name=snapshot_node_name)
                machine.nodes.note(drive)
                machine.nodes.freeze(below)
        except Qcow2Error as error:
            raise CommandError(reason(error)) from error
        except (OSError, ValueError) as error:
            raise CommandError(f"Could not {verb} '{file}': {reason(error)}") from error
        return {}

    def _check_format(self, wanted: str, *, existing: bool) -> None:
        if wanted not in FORMATS:
            what = "driver" if existing else "file format"
            raise CommandError(f"Unknown {what} '{wanted}'")
        if wanted == "raw":
            raise CommandError(
                "The overlay does not support backing images"
                if existing
                else "Backing file not supported for file format 'raw'"
            )

    def _check_node_name(self, name: str, drive: Drive) -> None:
        machine = self._machine
        if name in machine.node_names or name in machine.drives:
            raise CommandError("New overlay node-name already in use")
        refused = refusal(name, drive.id, machine.node_names, machine.devices)
        if refused is not None:
            raise CommandError(refused)

    @command("x-qmon-commit")
    async def commit(self, device: str) -> dict[str, Any]:
        """Write an overlay's data to its backing image; ``all`` means every drive with an overlay."""
        machine = self._machine
        if device == "all":
            drives = [drive for drive in machine.drives.values() if len(drive.layers) > 1]
        elif device not in machine.devices:
            raise DeviceNotFoundError(device)
        else:
            drives = [machine.medium_of(device)]
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

"""Adds and removes block nodes (QAPI: block-core.json). A node that no other node uses is a drive."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Sequence
from typing import Any

from qmon.block.write_threshold import WriteThreshold
from qmon.errors import CommandError, UsageError
from qmon.machine.conflicts import backing_of
from qmon.machine.drive import Drive
from qmon.machine.exports import Exports
from qmon.machine.holding import holding
from qmon.machine.machine import Machine
from qmon.machine.media import add_drive, put_away, remove_device
from qmon.notation.blockdev import check_blockdev
from qmon.notation.drive_options import DriveOptions, of_node
from qmon.notation.driver_options import Flat
from qmon.notation.image_spec import ImageSpec
from qmon.notation.node_reader import NodeReader
from qmon.notation.visit import Form
from qmon.qmp.registry import command

ADD, DELETE = "blockdev-add", "blockdev-del"


class NodeCommands:
    """A new node can refer to nodes that are drives: they stop being drives."""

    def __init__(self, machine: Machine, exports: Exports) -> None:
        self._machine = machine
        self._exports = exports

    @command("blockdev-add")
    async def add(self, /, **options: Any) -> dict[str, Any]:
        await self._add(check_blockdev(options, Form.JSON))
        return {}

    @command("x-qmon-node-add")
    async def add_options(self, options: dict[str, Any]) -> dict[str, Any]:
        """Add a block node by flat options such as ``file.filename``, with values as in an option string."""
        if "node-name" not in options:
            raise CommandError("'node-name' needs to be specified")
        await self._add(options)
        return {}

    async def _add(self, options: Flat) -> None:
        machine, disks = self._machine, self._machine.disks
        name = options["node-name"]

        def find(other: str) -> ImageSpec:
            try:
                return disks.find_image(other)
            except UsageError:
                if {other, name} <= disks.node_names:  # QEMU tells of this first
                    raise CommandError(f"Duplicate nodes with node-name='{name}'") from None
                raise

        reader = NodeReader(find, has_filters=True)
        settings = of_node(reader.read(options))
        below = [self._below(name, use) for name, use in reader.referred]
        drives = [drive for drive in below if drive is not None]
        with contextlib.ExitStack() as stack:
            for drive in drives:
                stack.enter_context(machine.use.changing(drive, ADD))
            await self._replace(drives, settings)

    def _below(self, name: str, use: str) -> Drive | None:
        """Return the drive that a node stops to be because another one uses it. Raises CommandError."""
        drive = self._machine.drives.get(name)
        if drive is None or not drive.settings.is_node:
            if use == "file":
                raise CommandError(f"Node '{name}' is in use by another node")
            return None
        if self._exports.exports_of(drive.id):
            raise CommandError(f"Node '{name}' is exported: remove its exports first")
        return drive

    async def _replace(self, drives: Sequence[Drive], settings: DriveOptions) -> None:
        """Add a drive in the place of others, whose nodes then rest. If it can't be opened, they stay."""
        machine, before = self._machine, [drive.names.settings_to_keep for drive in drives]
        for drive in drives:
            del machine.disks.devices[drive.id]
            await put_away(machine, drive)
        try:
            await add_drive(machine, settings)
        except BaseException:
            for each in before:
                await add_drive(machine, each)
            raise
        for each in before:
            machine.disks.nodes.rest(each)

    @command("blockdev-del")
    async def delete(self, node_name: str) -> dict[str, Any]:
        machine = self._machine
        drive = machine.drives.get(node_name)
        if drive is None or not drive.settings.is_node:
            raise self._why_kept(node_name)
        if self._exports.exports_of(drive.id):
            raise CommandError(f"Node {node_name} is in use")
        with machine.use.changing(drive, DELETE):
            await remove_device(machine, drive.id)
        return {}

    @command("block-set-write-threshold")
    async def set_threshold(self, node_name: str, write_threshold: int) -> dict[str, Any]:
        """Tell once when a node is written beyond an offset; 0 ends that."""
        machine = self._machine
        try:
            drive, _ = machine.disks.find_node(None, node_name)
        except CommandError as error:
            raise CommandError(f"Device '{node_name}' not found") from error
        names = {name for name, _ in drive.names.pairs}

        def told(threshold: int, exceeded: int) -> None:
            data = {"node-name": node_name, "amount-exceeded": exceeded, "write-threshold": threshold}
            machine.post(lambda: machine.registry.events.emit("BLOCK_WRITE_THRESHOLD", data))

        threshold = WriteThreshold(write_threshold % (1 << 64), told)
        if node_name in names and drive.is_active:
            async with holding(machine, [drive], "block-set-write-threshold"):
                drive.stack.set_threshold(node_name, threshold)
        else:
            drive.stack.set_threshold(node_name, threshold)
        return {}

    def _why_kept(self, name: str) -> CommandError:
        """The error about a node that can't be deleted, or is not there."""
        machine = self._machine
        for drive in machine.drives.values():
            if name == drive.names.shown or self._exports.exports_of_node(name):
                return CommandError(f"Node {name} is in use")
            names = drive.names.pairs
            for (above, _), (below, _) in itertools.pairwise(names):
                if name == below:
                    return backing_of(name, above)
            if drive.names.has(name):
                is_mine = name in machine.disks.nodes.resting
                return CommandError(
                    f"Block device {name} is in use"
                    if is_mine
                    else f"Node {name} is not owned by the monitor"
                )
        return CommandError(f"Failed to find node with node-name='{name}'")

"""Adds, removes and shows drives (QAPI: block-core.json)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from qmon.errors import CommandError, DeviceNotFoundError
from qmon.machine import describe
from qmon.machine.drive import Drive
from qmon.machine.exports import Exports
from qmon.machine.machine import Machine
from qmon.machine.media import add_device, add_drive, look_at, remove_device
from qmon.machine.opening import check_format
from qmon.machine.throttle_limits import read_limits
from qmon.notation.drive_options import DriveOptions
from qmon.notation.keyval import is_identifier
from qmon.qmp.registry import command

BUS_NUMBERS = {"ide": 1, "scsi": 2, "floppy": 3, "pflash": 4, "mtd": 5, "sd": 6, "virtio": 7, "xen": 8}
"""The numbers of QEMU's BlockInterfaceType (include/sysemu/blockdev.h), which are in its error message."""

DEL_DRIVE = "drive_del"


class BlockCommands:
    """Commands about drives. Removing a drive removes its exports."""

    def __init__(self, machine: Machine, exports: Exports) -> None:
        self._machine = machine
        self._exports = exports

    @command("query-block")
    async def query_block(self) -> list[dict[str, Any]]:
        disks = self._machine.disks
        return [describe.block_info(each, disks.drives.get(each.id)) for each in disks.devices.values()]

    @command("query-named-block-nodes")
    async def query_nodes(self, flat: bool | None = None) -> list[dict[str, Any]]:
        """Return all nodes, newest first; ``flat`` leaves out the backing images and their number."""
        nodes = self._of_all_nodes(describe.nodes_of)[::-1]
        for node in nodes:
            book, name = self._machine.disks.nodes, node["node-name"]
            if name in book.resting and name not in self._machine.drives:
                node["ro"] = book.resting[name].read_only
                node["detect_zeroes"] = book.resting[name].detect_zeroes
            node["ro"] = book.read_only.get(name, node["ro"])
        for node in nodes if flat else ():
            node["image"].pop("backing-image", None)
            node["backing_file_depth"] = 0
        return nodes

    def _of_all_nodes(self, describe: Callable[[Drive, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
        """Return what ``describe`` says of each node of each layer, the first that was opened first."""
        machine = self._machine
        found = {
            node["node-name"]: node
            for drive in machine.drives.values()
            for number in range(len(drive.layers))
            for node in describe(drive, number)
        }
        return [found[name] for name in sorted(found, key=machine.disks.nodes.age)]

    @command("query-blockstats")
    async def query_stats(self, query_nodes: bool | None = None) -> list[dict[str, Any]]:
        """Return the statistics of guests' requests, by NBD or qemu-io; nodes count only discards."""
        if query_nodes:
            return self._of_all_nodes(describe.node_stats)
        disks = self._machine.disks
        return [describe.device_stats(each, disks.drives.get(each.id)) for each in disks.devices.values()]

    @command("x-qmon-drive-add")
    async def drive_add(
        self,
        file: str | None = None,
        id: str | None = None,
        format: str | None = None,
        if_: str | None = None,
        readonly: bool | None = None,
        unit: int | None = None,
        index: int | None = None,
        throttling: dict[str, Any] | None = None,
        group: str | None = None,
        node_name: str | None = None,
        options: dict[str, Any] | None = None,
        snapshot: bool | None = None,
    ) -> dict[str, Any]:
        """Open an image as a drive, or add an empty drive. Default id: ``none`` and the unit, as ``none0``.

        ``options`` are those of the image's nodes, flat, such as ``file.filename``; with ``snapshot`` writes
        go to a temporary overlay. ``throttling`` is a ThrottleLimits. As in QEMU, an empty drive has none.
        """
        machine = self._machine
        interface = if_ or "none"
        image = DriveOptions(
            id or "",
            file or "",
            format,
            interface,
            bool(readonly),
            throttling or {},
            group,
            node_name,
            options=options or {},
            is_temporary=bool(snapshot),
        )
        if interface in BUS_NUMBERS:
            await self._refuse_bus(image)
        if interface != "none":
            raise CommandError(f"unsupported bus type '{interface}'")
        if id is not None:
            machine.disks.check_id_free(id)
        place = unit if index is None else index
        if place is not None and any(device.unit == place for device in machine.disks.devices.values()):
            told = -1 if index is None else index
            raise CommandError(f"drive with bus=0, unit={place} (index={told}) exists")
        if id is not None and not is_identifier(id):
            raise CommandError("Parameter 'id' expects an identifier")
        place = machine.disks.free_unit() if place is None else place
        name = f"none{place}" if id is None else id
        if file is None and not image.has_image:
            read_limits(image.limits)
            if format is not None:
                check_format(format)
                raise CommandError('A block device must be specified for "file"')
            add_device(machine, name, interface, read_only=bool(readonly), unit=place)
        else:
            await add_drive(machine, replace(image, id=name), place)
        return {"id": name}

    async def _refuse_bus(self, image: DriveOptions) -> None:
        """Refuse a drive on a bus, because the machine has none. Like QEMU, check the image first."""
        if image.has_image:
            await look_at(self._machine, replace(image, read_only=True, is_temporary=False))
        raise CommandError(f"Can't hot-add drive to type {BUS_NUMBERS[image.interface]}")

    @command("x-qmon-drive-del")
    async def drive_del(self, id: str) -> dict[str, Any]:
        """Remove a drive with its exports, even if clients use them, and close its image."""
        machine = self._machine
        if id in machine.disks.node_names and id not in machine.disks.devices:
            raise CommandError(f"Node {id} is in use")
        if id not in machine.disks.devices:
            raise DeviceNotFoundError(id)
        drive = machine.drives.get(id)
        if drive is None:
            await remove_device(machine, id)
            return {}
        with machine.use.changing(drive, DEL_DRIVE):
            await self._exports.remove_drive(id)
            await remove_device(machine, id)
        return {}

"""The disks of a machine by their names: devices, the drives that are their media, and nodes."""

from __future__ import annotations

import itertools

from qmon.errors import CommandError, DeviceNotFoundError, UsageError
from qmon.machine.device import Device
from qmon.machine.drive import Drive
from qmon.machine.node_book import NodeBook
from qmon.notation.drive_options import DriveOptions
from qmon.notation.image_spec import ImageSpec
from qmon.notation.node_names import refusal
from qmon.notation.node_reader import no_node


class Disks:
    """Finds disks, and refuses names that are taken. Opens and closes nothing."""

    def __init__(self) -> None:
        self.devices: dict[str, Device] = {}
        self.drives: dict[str, Drive] = {}
        """The devices that have a medium."""
        self.nodes = NodeBook()
        self._node_numbers = itertools.count(101)

    def new_node_name(self) -> str:
        """Return an unused name for a node. For any thread."""
        return f"#block{next(self._node_numbers):03d}"

    def image_files(self) -> list[str]:
        """Return the file names with which the drives were opened."""
        return [drive.image for drive in self.drives.values()]

    def drive(self, name: str) -> Drive:
        """Return a drive by its id or its node's name. Raises CommandError with QEMU's message."""
        return self.find_drive(name, name)

    def find_drive(self, device: str | None, node_name: str | None) -> Drive:
        """Return a drive by its id, else by its node's name. Raises CommandError with QEMU's message."""
        drive = self.drives.get(device or "")
        if drive is None and device in self.devices:
            raise CommandError(f"Device '{device}' has no medium")
        if drive is None:
            drive = next((each for each in self.drives.values() if each.names.top == node_name), None)
        if drive is None:
            raise CommandError(f"Cannot find device='{device or ''}' nor node-name='{node_name or ''}'")
        return drive

    def root(self, name: str) -> Drive:
        """Return a drive by its id or its topmost node. Raises CommandError with QEMU's message."""
        try:
            return self.drive(name)
        except CommandError as error:
            if any(drive.names.has(name) for drive in self.drives.values()):
                raise CommandError("Need a root block node") from error
            raise

    def find_node(self, device: str | None, node_name: str) -> tuple[Drive, str | None]:
        """Return a drive by its id, else by the name of one of its nodes, and the name of that node.

        The name is None for the drive's topmost node. Raises CommandError with QEMU's message.
        """
        if device is not None and device in self.device_names:
            return self.find_drive(device, None), None
        for drive in self.drives.values():
            if drive.names.has(node_name):
                return drive, None if node_name == drive.names.shown else node_name
        raise CommandError(f"Cannot find device='{device or ''}' nor node-name='{node_name}'")

    def medium_of(self, device: str) -> Drive:
        """Return a drive by its id only. Raises CommandError with QEMU's message."""
        if device not in self.devices:
            raise DeviceNotFoundError(device)
        return self.find_drive(device, None)

    def find_image(self, name: str) -> ImageSpec:
        """Return the image whose node has a name. Raises UsageError with QEMU's message."""
        for drive in self.drives.values():
            for number, each in enumerate(drive.names.specs()):
                if name in (each.top_name, each.name):
                    return drive.names.spec(number)
            if drive.names.has(name):
                raise UsageError(f"Node '{name}' is in use by another node")
        return no_node(name)

    def uses_group(self, name: str) -> bool:
        """Whether a disk is in a throttle group."""
        of_nodes = (drive.settings.group for drive in self.drives.values() if drive.chain.has_filter)
        return name in of_nodes or any(name == each.throttle.group for each in self.devices.values())

    def free_unit(self) -> int:
        """Return the first unused unit number of the devices without a bus."""
        taken = {device.unit for device in self.devices.values()}
        return next(number for number in itertools.count() if number not in taken)

    def empty_devices(self) -> list[str]:
        """Return the ids of the devices without a medium. For any thread."""
        return [name for name in list(self.devices) if name not in self.drives]

    @property
    def node_names(self) -> set[str]:
        """The names of all nodes."""
        names = {name for drive in self.drives.values() for pair in drive.names.pairs for name in pair}
        return names | {device.id for device in self.devices.values() if device.is_node}

    @property
    def device_names(self) -> set[str]:
        """The ids of the devices that are not block nodes."""
        return {device.id for device in self.devices.values() if not device.is_node}

    def check_id_free(self, id: str) -> None:
        """Raises CommandError if a device has this id."""
        if id in self.device_names:
            raise CommandError(f"Duplicate ID '{id}' for drive")

    def check_names(self, settings: DriveOptions) -> None:
        """Raises CommandError with QEMU's message if a name of a new disk is taken or not allowed."""
        id = settings.id
        taken, devices = self.node_names, self.device_names
        names = settings.given_names
        for image in settings.given_backing:
            names += [name for name in image.own_names if not self._is_node_of(name, image.file)]
        if not settings.is_node:
            self.check_id_free(id)
        names = [name for name in names if not self.nodes.is_made(name)]
        for number, name in enumerate(names or [None]):
            earlier = taken.union(names[:number])
            refused = refusal(name, "" if settings.is_node else id, earlier, devices)
            if refused is not None:
                raise CommandError(refused)

    def _is_node_of(self, name: str, file: str) -> bool:
        """Whether a node with this name is there, and is one of a file's: several images may rest on it."""
        drives = self.drives.values()
        nodes = [
            (pair, layer)
            for drive in drives
            for pair, layer in zip(drive.names.pairs, drive.layers, strict=True)
        ]
        return any(name in pair and layer.file == file for pair, layer in nodes)

    def rename(self, drive: Drive, id: str) -> None:
        """Give a drive that is a block node another id. It keeps its place, its exports and its clients."""
        old = drive.id
        drive.rename(id)
        self.drives = {id if name == old else name: each for name, each in self.drives.items()}
        self.devices = {id if name == old else name: each for name, each in self.devices.items()}

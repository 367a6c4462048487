"""The embedded machine: its run state and its drives.

Everything here runs on the loop. Blocking calls (open, flush, drain) go to a small executor.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import ParamSpec, TypeVar
from weakref import WeakValueDictionary

from qmon.block.image import FORMATS
from qmon.block.locks import ImageLockedError
from qmon.block.qcow2.header import Qcow2Error
from qmon.block.throttle import Limits, Throttle
from qmon.errors import CommandError, DeviceNotFoundError, UsageError, reason
from qmon.host.fdsets import real_name
from qmon.host.threads import Workers
from qmon.machine.device import Device
from qmon.machine.drive import Drive
from qmon.machine.node_book import NodeBook
from qmon.machine.runstate import RunState
from qmon.machine.user_object import UserObject
from qmon.machine.wanted_image import limits_of, resolved
from qmon.migration.drive import flushing
from qmon.notation.drive_options import DriveOptions
from qmon.notation.image_spec import ImageSpec
from qmon.notation.node_names import refusal
from qmon.notation.node_reader import no_node
from qmon.qmp.registry import Registry

log = logging.getLogger("qmon.machine")

NO_UUID = "00000000-0000-0000-0000-000000000000"
STOPPED = "stopped"
"""The reason for closing the gates of a stopped machine."""

_P = ParamSpec("_P")
_T = TypeVar("_T")


class Machine:
    """Create it on the loop; ``registry`` serves its commands. Raises OSError if no thread can start."""

    def __init__(self, *, name: str | None = None, uuid: str | None = None) -> None:
        self.name = name
        self.uuid = uuid or NO_UUID
        self.registry = Registry()
        self.objects: dict[str, UserObject] = {}
        self.devices: dict[str, Device] = {}
        self.drives: dict[str, Drive] = {}
        """The devices that have a medium."""
        self.nodes = NodeBook()
        self.state = RunState.PRELAUNCH
        self.autostart = True
        """Whether the machine runs as soon as it can; False after -S or stop."""
        self.quit_requested = asyncio.Event()
        self.loop = asyncio.get_running_loop()
        self._changing = asyncio.Lock()  # two monitors' stop and cont must not overlap
        self._executor = Workers(4, "control")
        self._node_numbers = itertools.count(101)
        self._throttles: WeakValueDictionary[str, Throttle] = WeakValueDictionary()
        """The throttle groups that have disks, by name."""
        self._changing_drives: dict[str, str] = {}
        self._busy: Callable[[str], str | None] = lambda drive: None
        self.before_run: Callable[[], None] = lambda: None
        """Called before the machine runs; may block. A QmonError from it keeps the machine from running."""

    @property
    def is_running(self) -> bool:
        return self.state is RunState.RUNNING

    async def blocking(self, function: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """Run a blocking function in the executor and return its result."""
        return await self.loop.run_in_executor(self._executor, lambda: function(*args, **kwargs))

    def post(self, function: Callable[[], object]) -> None:
        """Run ``function`` on the loop soon. For any thread."""
        try:
            self.loop.call_soon_threadsafe(function)
        except RuntimeError:
            log.debug("the loop has ended: %r is not run", function)

    def set_busy_check(self, check: Callable[[str], str | None]) -> None:
        """Set ``check(drive_id)``: it returns what uses a drive, so that it must not be changed, or None."""
        self._busy = check

    def check_not_busy(self, drive: Drive) -> None:
        """Raises CommandError with QEMU's message if a drive is busy."""
        holder = self._busy(drive.id)
        if holder is not None:
            raise CommandError(f"Node '{drive.id}' is busy: block device is in use by {holder}")
        self.check_not_changing(drive)

    def check_not_changing(self, drive: Drive) -> None:
        """Raises CommandError with QEMU's message if a command is changing a drive."""
        what = self._changing_drives.get(drive.id)
        if what is not None:
            raise CommandError(f"Node '{drive.id}' is busy: block device is in use by {what}")

    def check_may_migrate(self) -> None:
        """Raises CommandError if a drive is being changed, or has not opened its image."""
        for drive in self.drives.values():
            self.check_not_changing(drive)
            if drive.is_waiting:
                raise CommandError(
                    f"drive '{drive.id}' uses an image that another drive has open: remove one of them"
                )

    @contextlib.contextmanager
    def changing(self, drive: Drive, what: str) -> Iterator[None]:
        """Keep other changes of a drive, and migrations, from starting while ``what`` is done to it.

        Raises CommandError with QEMU's message if the drive is busy.
        """
        self.check_not_busy(drive)
        self._changing_drives[drive.id] = what
        try:
            yield
        finally:
            del self._changing_drives[drive.id]

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
            drive = next((each for each in self.drives.values() if each.node_name == node_name), None)
        if drive is None:
            raise CommandError(f"Cannot find device='{device or ''}' nor node-name='{node_name or ''}'")
        return drive

    def root(self, name: str) -> Drive:
        """Return a drive by its id or its topmost node. Raises CommandError with QEMU's message."""
        try:
            return self.drive(name)
        except CommandError as error:
            if any(drive.has_node(name) for drive in self.drives.values()):
                raise CommandError("Need a root block node") from error
            raise

    def find_node(self, device: str | None, node_name: str) -> tuple[Drive, str | None]:
        """Return a drive by its id, else by the name of one of its nodes, and the name of that node.

        The name is None for the drive's topmost node. Raises CommandError with QEMU's message.
        """
        if device is not None and device in self.device_names:
            return self.find_drive(device, None), None
        for drive in self.drives.values():
            if drive.has_node(node_name):
                return drive, None if node_name == drive.shown_node_name else node_name
        raise CommandError(f"Cannot find device='{device or ''}' nor node-name='{node_name}'")

    def medium_of(self, device: str) -> Drive:
        """Return a drive by its id only. Raises CommandError with QEMU's message."""
        if device not in self.devices:
            raise DeviceNotFoundError(device)
        return self.find_drive(device, None)

    def add_device(
        self, id: str, interface: str, *, read_only: bool = False, unit: int | None = None
    ) -> Device:
        """Add a device without a medium. Raises CommandError if the id or the unit is in use."""
        self._check_may_add(DriveOptions(id, "", None, interface, read_only))
        if interface == "none":
            unit = self.free_unit() if unit is None else unit
        device = self.devices[id] = Device(id, read_only, unit)
        return device

    def free_unit(self) -> int:
        """Return the first unused unit number of the devices without a bus."""
        taken = {device.unit for device in self.devices.values()}
        return next(number for number in itertools.count() if number not in taken)

    async def add_drive(self, settings: DriveOptions, unit: int | None = None) -> Drive:
        """Open an image as a drive. While the machine waits for a migration, the image is not locked.

        If another drive of this machine has the image open, the new drive opens it only when it is used, as
        in QEMU: two drives that write to one image would destroy it. Raises CommandError naming the file.
        """
        limits = limits_of(settings, self.objects)
        settings = resolved(settings, self.find_image)
        self._check_may_add(settings)
        drive = await self._open(settings)
        try:  # again, because other commands may have run in between
            self._check_may_add(settings)
        except CommandError:
            await self.blocking(drive.close)
            raise
        if settings.is_node:
            device = self.devices[settings.id] = drive.guest.device
        else:
            device = self.add_device(settings.id, settings.interface, read_only=drive.read_only, unit=unit)
        if limits:
            self.limit(device, limits, settings.group)
        self.insert(drive, device)
        return drive

    def uses_group(self, name: str) -> bool:
        """Whether a disk is in a throttle group."""
        of_nodes = (drive.settings.group for drive in self.drives.values() if drive.has_filter)
        return name in of_nodes or any(name == each.throttle.group for each in self.devices.values())

    def limit(self, device: Device, limits: Limits, group: str | None) -> None:
        """Set a device's limits, which are those of all disks of its throttle group.

        ``group`` None: the one that it is in, else one with its own name. Without limits it leaves its group.
        """
        if not limits:
            device.throttle = Throttle()
            return
        if group is not None or not device.throttle.limits:
            name = group or device.id
            throttle = self._throttles.get(name)
            if throttle is None:
                throttle = self._throttles[name] = Throttle(name)
            device.throttle = throttle
        device.throttle.set(limits)

    def find_image(self, name: str) -> ImageSpec:
        """Return the image whose node has a name. Raises UsageError with QEMU's message."""
        for drive in self.drives.values():
            for number, each in enumerate(drive.specs()):
                if name in (each.top_name, each.name):
                    return drive.spec(number)
            if drive.has_node(name):
                raise UsageError(f"Node '{name}' is in use by another node")
        return no_node(name)

    async def _open(self, settings: DriveOptions) -> Drive:
        drive = await self.look_at(settings)
        if self.state is not RunState.INMIGRATE:
            try:
                await self.lock(drive)
            except CommandError as error:
                mine = isinstance(error.__cause__, ImageLockedError) and await self.blocking(self._has, drive)
                if not mine:
                    await self.blocking(drive.close)
                    raise
                drive.is_waiting = True
        return drive

    def _has(self, drive: Drive) -> bool:
        """Whether another drive of this machine uses the same image."""
        image = real_name(drive.image)
        return any(os.path.samefile(image, real_name(each.image)) for each in list(self.drives.values()))

    async def wake(self, drive: Drive) -> None:
        """Open the image of a drive that ``is_waiting``, before its first use. Raises CommandError."""
        if drive.is_waiting:
            await self.lock(drive)
            drive.is_waiting = False

    async def look_at(self, settings: DriveOptions) -> Drive:
        """Read an image's header; return an inactive drive for it. Raises CommandError naming the file."""
        check_format(settings.format)
        settings = resolved(settings, self.find_image)
        if not settings.file:
            raise CommandError("The 'file' block driver requires a file name")
        try:
            return await self.blocking(Drive, settings, self._new_node_name)
        except IsADirectoryError as error:
            raise CommandError(f"'file' driver requires '{settings.file}' to be a regular file") from error
        except (
            OSError,
            ValueError,
        ) as error:  # ValueError: a null byte, or characters that can't be in a path
            raise _not_opened(settings, error) from error

    def _new_node_name(self) -> str:
        return f"#block{next(self._node_numbers):03d}"

    async def lock(self, drive: Drive) -> None:
        """Open and lock a drive's image. Raises CommandError naming the file."""
        try:
            await self.blocking(drive.activate)
        except (OSError, ValueError) as error:
            raise _not_opened(drive.settings, error) from error

    def insert(self, drive: Drive, device: Device) -> None:
        """Insert a medium into an empty device."""
        drive.guest.device = device
        device.read_only = drive.read_only
        if not self.is_running:
            drive.gate.close(STOPPED, 0)  # no request is inside yet
        self.drives[device.id] = drive
        self.nodes.note(drive)

    def rename(self, drive: Drive, id: str) -> None:
        """Give a drive that is a block node another id. It keeps its place, its exports and its clients."""
        old = drive.id
        drive.rename(id)
        self.drives = {id if name == old else name: each for name, each in self.drives.items()}
        self.devices = {id if name == old else name: each for name, each in self.devices.items()}

    def empty_devices(self) -> list[str]:
        """Return the ids of the devices without a medium. For any thread."""
        return [name for name in list(self.devices) if name not in self.drives]

    def check_id_free(self, id: str) -> None:
        """Raises CommandError if a device has this id."""
        if id in self.device_names:
            raise CommandError(f"Duplicate ID '{id}' for drive")

    @property
    def node_names(self) -> set[str]:
        """The names of all nodes."""
        names = {name for drive in self.drives.values() for pair in drive.node_names for name in pair}
        return names | {device.id for device in self.devices.values() if device.is_node}

    @property
    def device_names(self) -> set[str]:
        """The ids of the devices that are not block nodes."""
        return {device.id for device in self.devices.values() if not device.is_node}

    def _check_may_add(self, settings: DriveOptions) -> None:
        id = settings.id
        check_format(settings.format)
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
        holder = self._busy(id)
        if holder is not None:
            raise CommandError(f"drive '{id}' can't be added while a {holder} is under way")

    def _is_node_of(self, name: str, file: str) -> bool:
        """Whether a node with this name is there, and is one of a file's: several images may rest on it."""
        drives = self.drives.values()
        nodes = [
            (pair, layer)
            for drive in drives
            for pair, layer in zip(drive.node_names, drive.layers, strict=True)
        ]
        return any(name in pair and layer.file == file for pair, layer in nodes)

    async def remove_device(self, id: str) -> None:
        """Remove a device and close its medium. Raises CommandError if the last flush fails."""
        del self.devices[id]
        if id in self.drives:
            await self.remove_drive(self.drives[id])

    async def remove_drive(self, drive: Drive) -> None:
        """Close a medium and leave its device empty. Raises CommandError if the last flush fails.

        The nodes that users had added, and that only this drive used, become drives.
        """
        try:
            await self.put_away(drive)
        finally:
            await self.wake_nodes()

    async def wake_nodes(self) -> None:
        """Make drives of the nodes that users had added and that no drive uses any more."""
        for settings in list(self.nodes.wake(self.drives.values())):
            try:
                await self.add_drive(settings)
            except CommandError as error:
                log.error("node '%s' is gone: %s", settings.id, error)
        self.nodes.forget(list(self.drives.values()))

    async def put_away(self, drive: Drive) -> None:
        """Close a medium whose nodes another drive is to use. Raises CommandError if the last flush fails."""
        del self.drives[drive.id]
        self.nodes.put_away(drive)
        with flushing(drive, CommandError):
            await self.blocking(drive.close)

    def set_state(self, state: RunState) -> None:
        """Change the run state and emit RESUME or STOP. The caller opens or closes the gates."""
        was_running, self.state = self.is_running, state
        if self.is_running and not was_running:
            self.registry.events.emit("RESUME")
        elif was_running and not self.is_running:
            self.registry.events.emit("STOP")

    async def stop(self) -> None:
        """If the machine runs, hold the drives' requests and flush. Raises CommandError naming the drive."""
        async with self._changing:
            if not self.is_running:
                return
            self.set_state(RunState.PAUSED)
            await self._close_gates()
            await self.flush(self.drives.values())

    async def _close_gates(self) -> None:
        closing = [self.blocking(drive.gate.close, STOPPED) for drive in self.drives.values()]
        await asyncio.gather(*closing)

    @contextlib.asynccontextmanager
    async def standing_still(self, state: RunState) -> AsyncIterator[None]:
        """Let a machine that runs stand still in ``state``, and run again; ``stop`` and ``cont`` wait."""
        async with self._changing:
            if not self.is_running:
                yield
                return
            self.set_state(state)
            try:
                await self._close_gates()
                yield
            finally:
                if self.state is state:
                    self.open_gates()
                    self.set_state(RunState.RUNNING)

    async def stay_stopped(self) -> None:
        """Stop for good while it stands still. A failed flush is logged."""
        if self.state in (RunState.SAVE_VM, RunState.RESTORE_VM):
            self.state = RunState.PAUSED
            try:
                await self.flush(self.drives.values())
            except CommandError as error:
                log.error("%s", error)

    async def flush(self, drives: Iterable[Drive]) -> None:
        """Flush the drives that are active and writable. Raises CommandError naming the drive."""
        for drive in drives:
            if drive.is_active and not drive.read_only:
                with flushing(drive, CommandError):
                    await self.blocking(drive.node.flush)

    def open_gates(self) -> None:
        """Open the gates that are closed because the machine is stopped. For any thread."""
        for drive in list(self.drives.values()):
            drive.gate.open(STOPPED)

    async def run(self) -> None:
        """Run the machine. Raises CommandError if an image can't be opened."""
        async with self._changing:
            await self.blocking(self.before_run)
            await self.activate()
            self.open_gates()
            self.set_state(RunState.RUNNING)

    async def activate(self) -> None:
        """Open and lock the images that are not open. Raises CommandError naming the file."""
        for drive in list(self.drives.values()):
            if not drive.is_waiting:
                await self.lock(drive)

    def request_quit(self) -> None:
        """Set ``quit_requested``, so that the process ends soon."""
        if not self.quit_requested.is_set():
            self.state = RunState.SHUTDOWN  # without the event STOP, as in QEMU
            self.registry.events.emit("SHUTDOWN", {"guest": False, "reason": "host-qmp-quit"})
            self.quit_requested.set()

    async def close(self) -> None:
        """Close all drives; errors of the last flush are logged."""
        for drive in list(self.drives.values()):
            try:
                await self.put_away(drive)
            except CommandError as error:
                log.error("%s", error)
        self._executor.shutdown(wait=False)


def _not_opened(settings: DriveOptions, error: OSError | ValueError) -> CommandError:
    """The error about an image that can't be opened. For a damaged node QEMU names no file."""
    if settings.is_node and isinstance(error, Qcow2Error):
        return CommandError(reason(error))
    return CommandError(f"Could not open '{settings.file}': {reason(error)}")


def check_format(format: str | None) -> None:
    """Raises CommandError for an unknown format; None means that it will be probed."""
    if format is not None and format not in FORMATS:
        raise CommandError(f"Unknown driver '{format}'")

"""Changes the media in devices: their size, the medium itself, the limits (QAPI: block-core.json)."""

from __future__ import annotations

import os
from typing import Any

from qmon.block.throttle import Limits
from qmon.errors import CommandError, DeviceNotFoundError, reason
from qmon.machine.conflicts import conflict, used_by_export
from qmon.machine.device import Device
from qmon.machine.drive import Drive
from qmon.machine.exports import Exports
from qmon.machine.machine import Machine
from qmon.machine.media import insert, look_at, remove_drive, wake
from qmon.machine.new_images import MAX_SIZE
from qmon.machine.opening import lock
from qmon.machine.runstate import RunState
from qmon.machine.throttle_limits import UNLIMITED, check_limits, named
from qmon.notation.drive_options import DriveOptions
from qmon.notation.file_names import is_same_file
from qmon.qmp.registry import command

RESIZE = "resize"
"""The reason for closing a gate while the size changes."""

DRAIN_SECONDS = 10.0
SECTOR = 512

_ELSEWHERE = frozenset({RunState.INMIGRATE, RunState.FINISH_MIGRATE, RunState.POSTMIGRATE})
"""The states in which another machine has, or may have, the images."""


class MediaCommands:
    """Commands about media. Every device is removable, and no guest locks its tray."""

    def __init__(self, machine: Machine, exports: Exports) -> None:
        self._machine = machine
        self._exports = exports

    def _device(self, device: str | None, id: str | None) -> Device:
        """Find a device by ``device``. ``id`` is for a guest's device, and there are none."""
        if (device is None) == (id is None):
            raise CommandError("Need exactly one of 'device' and 'id'")
        name = id if device is None else device
        found = self._machine.disks.devices.get(device or "")
        if found is None or found.is_node:
            raise DeviceNotFoundError(str(name))
        return found

    def _check_here(self) -> None:
        if self._machine.state in _ELSEWHERE:
            state = self._machine.state.value
            raise CommandError(f"The images are closed because of a migration (the machine is '{state}')")

    @command("block_resize")
    async def resize(
        self, size: int, device: str | None = None, node_name: str | None = None
    ) -> dict[str, Any]:
        """Change a drive's size; requests wait. Fails while it is exported: NBD clients rely on the size."""
        machine = self._machine
        drive = machine.disks.find_drive(device, node_name)
        if size < 0:
            raise CommandError("Parameter 'size' expects a >0 size")
        if size > MAX_SIZE:
            raise CommandError(f"offset({size}) exceeds maximum({MAX_SIZE})")
        if drive.read_only:
            raise CommandError("Image is read-only")
        self._check_here()
        if self._exports.exports_of(drive.id):
            name = drive.names.top
            raise conflict(name, "resize", used_by_export(name), used_by_export(name))
        await wake(machine, drive)
        with machine.use.changing(drive, RESIZE):
            if not await machine.blocking(drive.gate.close, RESIZE, DRAIN_SECONDS):
                raise CommandError(f"drive '{drive.id}': a request did not finish within {DRAIN_SECONDS:g} s")
            try:
                await machine.blocking(drive.node.resize, size)
            except (OSError, OverflowError) as error:
                why = reason(error)
                is_plain = not isinstance(error, OSError) or why == os.strerror(error.errno or 0)
                raise CommandError(f"Could not resize file: {why}" if is_plain else why) from error
            finally:
                drive.gate.open(RESIZE)
        return {}

    @command("eject")
    async def eject(
        self, device: str | None = None, id: str | None = None, force: bool | None = None
    ) -> dict[str, Any]:
        """Remove the medium and its exports, if there is a medium."""
        found = self._device(device, id)
        drive = self._machine.drives.get(found.id)
        if drive is not None:
            with self._machine.use.changing(drive, "eject"):
                await self._remove(drive)
        return {}

    async def _remove(self, drive: Drive) -> None:
        await self._exports.remove_drive(drive.id)
        await remove_drive(self._machine, drive)

    @command("blockdev-open-tray")
    async def open_tray(
        self, device: str | None = None, id: str | None = None, force: bool | None = None
    ) -> dict[str, Any]:
        """Check the device; there is no tray, because no guest uses it."""
        self._device(device, id)
        return {}

    @command("blockdev-close-tray")
    async def close_tray(self, device: str | None = None, id: str | None = None) -> dict[str, Any]:
        self._device(device, id)
        return {}

    @command("blockdev-change-medium")
    async def change(
        self,
        filename: str,
        device: str | None = None,
        id: str | None = None,
        format: str | None = None,
        force: bool | None = None,
        read_only_mode: str | None = None,
    ) -> dict[str, Any]:
        """Replace the medium. If the new one can't be opened, the old one stays."""
        machine = self._machine
        place = self._device(device, id)
        read_only = {"read-only": True, "read-write": False}.get(read_only_mode or "", place.read_only)
        old = machine.drives.get(place.id)
        if machine.state in (RunState.FINISH_MIGRATE, RunState.POSTMIGRATE):
            self._check_here()
        new = await look_at(machine, DriveOptions(place.id, filename, format, "none", read_only))
        if old is None:
            await self._insert(new, place)
            return {}
        if machine.drives.get(place.id) is not old:
            raise CommandError(f"Device '{place.id}' was changed by another command")
        with machine.use.changing(old, "change"):
            if not await machine.blocking(is_same_file, old.image, new.image):
                await self._lock(new)
            try:
                await self._remove(old)
            except CommandError:
                await machine.blocking(new.close)
                raise
        await self._insert(new, place)
        return {}

    async def _lock(self, drive: Drive) -> None:
        if self._machine.state is not RunState.INMIGRATE:
            await self._machine.blocking(lock, drive)

    async def _insert(self, drive: Drive, place: Device) -> None:
        machine = self._machine
        await self._lock(drive)
        if place.id in machine.drives or machine.disks.devices.get(place.id) is not place:
            await machine.blocking(drive.close)
            raise CommandError(f"Device '{place.id}' was changed by another command")
        insert(machine, drive, place)

    @command("block_set_io_throttle")
    async def throttle(
        self,
        bps: int,
        bps_rd: int,
        bps_wr: int,
        iops: int,
        iops_rd: int,
        iops_wr: int,
        device: str | None = None,
        id: str | None = None,
        bps_max: int = 0,
        bps_rd_max: int = 0,
        bps_wr_max: int = 0,
        iops_max: int = 0,
        iops_rd_max: int = 0,
        iops_wr_max: int = 0,
        bps_max_length: int = 1,
        bps_rd_max_length: int = 1,
        bps_wr_max_length: int = 1,
        iops_max_length: int = 1,
        iops_rd_max_length: int = 1,
        iops_wr_max_length: int = 1,
        iops_size: int = 0,
        group: str | None = None,
    ) -> dict[str, Any]:
        """Limit the guests' requests to a disk. The disks of a ``group`` share its limits."""
        place = self._device(device, id)
        if place.id not in self._machine.drives:
            raise CommandError("Device has no medium")
        limits = Limits(
            bps,
            bps_rd,
            bps_wr,
            iops,
            iops_rd,
            iops_wr,
            bps_max,
            bps_rd_max,
            bps_wr_max,
            iops_max,
            iops_rd_max,
            iops_wr_max,
            bps_max_length,
            bps_rd_max_length,
            bps_wr_max_length,
            iops_max_length,
            iops_rd_max_length,
            iops_wr_max_length,
            iops_size,
        )
        check_limits({**UNLIMITED, **named(limits)})
        self._machine.throttle_groups.limit(place, limits, group)
        return {}

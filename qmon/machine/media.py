"""Puts drives into the machine, and takes them out."""

from __future__ import annotations

import logging

from qmon.block.image_file import interrupt_remote
from qmon.block.locks import ImageLockedError
from qmon.errors import CommandError
from qmon.host.fdsets import real_name
from qmon.machine import opening
from qmon.machine.device import Device
from qmon.machine.drive import Drive
from qmon.machine.machine import STOPPED, Machine
from qmon.machine.opening import check_format, lock
from qmon.machine.runstate import RunState
from qmon.machine.throttle_limits import read_limits
from qmon.machine.wanted_image import group_of, resolved
from qmon.migration.drive import flushing
from qmon.notation.drive_options import DriveOptions
from qmon.notation.file_names import is_same_file

REMOTE_SECONDS = 10.0
"""How long the end of the machine waits for the servers of its drives."""

log = logging.getLogger("qmon.machine")


async def add_drive(machine: Machine, settings: DriveOptions, unit: int | None = None) -> Drive:
    """Open an image as a drive. While the machine waits for a migration, the image is not locked.

    If another drive of this machine has the image open, the new drive opens it only when it is used, as
    in QEMU: two drives that write to one image would destroy it. Raises CommandError naming the file.
    """
    group = group_of(settings, machine.objects)
    limits = read_limits(settings.limits)
    settings = resolved(settings, machine.disks.find_image)
    _check_may_add(machine, settings)
    drive = await _open(machine, settings)
    try:  # again, because other commands may have run in between
        _check_may_add(machine, settings)
    except CommandError:
        await machine.blocking(drive.close)
        raise
    if settings.is_node:
        device = machine.disks.devices[settings.id] = drive.guest.device
    else:
        device = add_device(machine, settings.id, settings.interface, read_only=drive.read_only, unit=unit)
    if group is not None:
        device.throttle = group.throttle
    elif limits:
        machine.throttle_groups.limit(device, limits, settings.group)
    insert(machine, drive, device)
    return drive


def add_device(
    machine: Machine, id: str, interface: str, *, read_only: bool = False, unit: int | None = None
) -> Device:
    """Add a device without a medium. Raises CommandError if the id or the unit is in use."""
    _check_may_add(machine, DriveOptions(id, "", None, interface, read_only))
    if interface == "none":
        unit = machine.disks.free_unit() if unit is None else unit
    device = machine.disks.devices[id] = Device(id, read_only, unit)
    return device


def _check_may_add(machine: Machine, settings: DriveOptions) -> None:
    check_format(settings.format)
    machine.disks.check_names(settings)
    machine.use.check_may_add(settings.id)


async def _open(machine: Machine, settings: DriveOptions) -> Drive:
    drive = await look_at(machine, settings)
    if machine.state is not RunState.INMIGRATE:
        try:
            await machine.blocking(lock, drive)
        except CommandError as error:
            mine = isinstance(error.__cause__, ImageLockedError) and await machine.blocking(
                _has, machine, drive
            )
            if not mine:
                await machine.blocking(drive.close)
                raise
            drive.is_waiting = True
    return drive


def _has(machine: Machine, drive: Drive) -> bool:
    """Whether another drive of this machine uses the same image."""
    image = real_name(drive.image)
    return any(is_same_file(image, real_name(each.image)) for each in list(machine.drives.values()))


async def wake(machine: Machine, drive: Drive) -> None:
    """Open the image of a drive that ``is_waiting``, before its first use. Raises CommandError."""
    if drive.is_waiting:
        await machine.blocking(lock, drive)
        drive.is_waiting = False


async def look_at(machine: Machine, settings: DriveOptions) -> Drive:
    """Read an image's header; return an inactive drive for it. Raises CommandError naming the file."""
    check_format(settings.format)
    settings = resolved(settings, machine.disks.find_image)
    if not settings.file:
        raise CommandError("The 'file' block driver requires a file name")
    return await machine.blocking(opening.look_at, settings, machine.disks.new_node_name)


def insert(machine: Machine, drive: Drive, device: Device) -> None:
    """Insert a medium into an empty device."""
    drive.guest.device = device
    device.read_only = drive.read_only
    if not machine.is_running:
        drive.gate.close(STOPPED, 0)  # no request is inside yet
    machine.disks.drives[device.id] = drive
    machine.disks.nodes.note(drive)


async def remove_device(machine: Machine, id: str) -> None:
    """Remove a device and close its medium. Raises CommandError if the last flush fails."""
    del machine.disks.devices[id]
    if id in machine.drives:
        await remove_drive(machine, machine.drives[id])


async def remove_drive(machine: Machine, drive: Drive) -> None:
    """Close a medium and leave its device empty. Raises CommandError if the last flush fails.

    The nodes that users had added, and that only this drive used, become drives.
    """
    try:
        await put_away(machine, drive)
    finally:
        await wake_nodes(machine)


async def wake_nodes(machine: Machine) -> None:
    """Make drives of the nodes that users had added and that no drive uses any more."""
    for settings in list(machine.disks.nodes.wake(machine.drives.values())):
        try:
            await add_drive(machine, settings)
        except CommandError as error:
            log.error("node '%s' is gone: %s", settings.id, error)
    machine.disks.nodes.forget(list(machine.drives.values()))


async def put_away(machine: Machine, drive: Drive) -> None:
    """Close a medium whose nodes another drive is to use. Raises CommandError if the last flush fails."""
    del machine.disks.drives[drive.id]
    machine.disks.nodes.put_away(drive)
    with flushing(drive, CommandError):
        await machine.blocking(drive.close)


async def close_drives(machine: Machine) -> None:
    """Close all drives; errors of the last flush are logged. A server that does not answer is left."""
    leaving = machine.loop.call_later(REMOTE_SECONDS, interrupt_remote)
    for drive in list(machine.drives.values()):
        try:
            await put_away(machine, drive)
        except CommandError as error:
            log.error("%s", error)
    leaving.cancel()

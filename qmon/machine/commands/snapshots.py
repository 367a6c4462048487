"""The commands of internal snapshots, of one drive and of the whole machine (QAPI: block-core.json)."""

from __future__ import annotations

import errno
import logging
import os
import time
from typing import Any

from qmon.block.qcow2.internal_snapshots import HAS_BITMAPS, check_name
from qmon.block.qcow2.snapshots import Snapshot
from qmon.errors import CommandError, reason
from qmon.machine.commands.exports import ExportCommands
from qmon.machine.drive import Drive
from qmon.machine.holding import holding
from qmon.machine.images import snapshot_info
from qmon.machine.machine import Machine
from qmon.qmp.registry import command

NO_VMSTATE = "no block device can store vmstate for snapshot"
_WITH_SNAPSHOTS = frozenset({"qcow2"})

SNAPSHOT = "snapshot"
"""The user of a drive in messages about a busy drive."""

log = logging.getLogger("qmon.snapshots")


class SnapshotCommands:
    """``x-qmon-`` commands are HMP's savevm, loadvm and delvm, which QMP has only as jobs or not at all.

    This machine has no other state than its disks, so its snapshots are its disks' snapshots.
    """

    def __init__(self, machine: Machine, exports: ExportCommands) -> None:
        self._machine = machine
        self._exports = exports

    @command("blockdev-snapshot-internal-sync")
    async def snapshot_internal(self, device: str, name: str) -> dict[str, Any]:
        drive = self._machine.root(device)
        if drive.read_only:
            raise CommandError(f"Device '{device}' is read only")
        if drive.format not in _WITH_SNAPSHOTS:
            raise CommandError(
                f"Block format '{drive.format}' used by device '{device}' does not support internal snapshots"
            )
        if not name:
            raise CommandError("Name is empty")
        _check_name(name)
        async with holding(self._machine, [drive], SNAPSHOT):
            if _named(drive, name):
                raise CommandError(f"Snapshot with name '{name}' already exists on device '{device}'")
            try:
                await self._take(drive, name, time.time_ns())
            except OSError as error:
                log.error("drive '%s': snapshot '%s' can't be created: %s", drive.id, name, reason(error))
                why = os.strerror(error.errno or errno.EIO)
                raise CommandError(
                    f"Failed to create snapshot '{name}' on device '{device}': {why}"
                ) from error
        return {}

    @command("blockdev-snapshot-delete-internal-sync")
    async def snapshot_delete(
        self, device: str, id: str | None = None, name: str | None = None
    ) -> dict[str, Any]:
        """Delete a snapshot. Returns its SnapshotInfo."""
        drive = self._machine.root(device)
        if id is None and name is None:
            raise CommandError("Name or id must be provided")
        if drive.format not in _WITH_SNAPSHOTS:
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
                await self._delete(drive, [found])
            except OSError as error:
                raise CommandError(
                    f"Failed to delete snapshot '{found.name}' on device '{device}': {reason(error)}"
                ) from error
        return snapshot_info(found)

    async def _take(self, drive: Drive, name: str, now_ns: int) -> None:
        """Take a snapshot; it replaces one of the same name. ``now_ns`` is its time. Raises OSError."""
        await self._machine.blocking(_take, drive, name, now_ns)

    async def _delete(self, drive: Drive, snapshots: list[Snapshot]) -> None:
        await self._machine.blocking(_delete, drive, snapshots)

    @command("x-qmon-savevm")
    async def savevm(self, name: str | None = None) -> dict[str, Any]:
        """Take a snapshot of all drives at the same moment. If one fails, those already taken are deleted."""
        drives = self._check_snapshots(needs_vmstate=True)
        now_ns = time.time_ns()
        if name is not None:
            _check_name(name)
        else:
            name = time.strftime("vm-%Y%m%d%H%M%S", time.localtime(now_ns // 1_000_000_000))
        async with holding(self._machine, drives, SNAPSHOT):
            done: list[Drive] = []
            for drive in drives:
                try:
                    await self._take(drive, name, now_ns)
                except OSError as error:
                    for each in done:
                        await self._forget(each, name)
                    log.error("drive '%s': snapshot '%s' can't be created: %s", drive.id, name, reason(error))
                    raise CommandError(f"Could not create snapshot '{name}' on '{drive.id}'") from error
                done.append(drive)
        return {}

    async def _forget(self, drive: Drive, name: str) -> None:
        try:
            await self._delete(drive, _named(drive, name))
        except OSError as error:
            log.error("drive '%s': snapshot '%s' can't be deleted: %s", drive.id, name, reason(error))

    @command("x-qmon-loadvm")
    async def loadvm(self, name: str) -> dict[str, Any]:
        """Load a snapshot of all drives. If one fails after others were loaded, the machine is stopped."""
        machine = self._machine
        drives = self._check_snapshots(needs_vmstate=True)
        async with holding(machine, drives, SNAPSHOT):
            self._check_loadable(drives, name)
            for number, drive in enumerate(drives):
                try:
                    await machine.blocking(_apply, drive, name)
                except OSError as error:
                    if number:
                        await self._stop()
                    raise CommandError(
                        f"Could not load snapshot '{name}' on '{drive.id}': {reason(error)}"
                    ) from error
        return {}

    def _check_loadable(self, drives: list[Drive], name: str) -> None:
        if not all(_named(drive, name) for drive in drives):
            raise CommandError(f"Snapshot '{name}' does not exist in one or more devices")
        for drive in drives:
            if drive.bitmaps():
                raise CommandError(f"Could not load snapshot '{name}' on '{drive.id}': {HAS_BITMAPS}")
            size = _named(drive, name)[0].disk_size
            if size not in (None, drive.size) and self._exports.exports_of(drive.id):
                raise CommandError(
                    f"Could not load snapshot '{name}' on '{drive.id}': it has another size ({size} bytes),"
                    " and NBD clients rely on the current one: remove the drive's exports first"
                )

    async def _stop(self) -> None:
        try:
            await self._machine.stop()
        except CommandError as error:
            log.error("%s", error)

    @command("x-qmon-delvm")
    async def delvm(self, name: str) -> dict[str, Any]:
        """Delete a snapshot of all drives. Succeeds even if no drive has it."""
        drives = self._check_snapshots(needs_vmstate=False)
        async with holding(self._machine, drives, SNAPSHOT):
            for drive in drives:
                found = _named(drive, name)
                try:
                    if found:
                        await self._delete(drive, found)
                except OSError as error:
                    raise CommandError(
                        f"Could not delete snapshot '{name}' on '{drive.id}': {reason(error)}"
                    ) from error
        return {}

    def _check_snapshots(self, *, needs_vmstate: bool) -> list[Drive]:
        """Return the drives that have the machine's snapshots. Raises CommandError with QEMU's message."""
        writable = [drive for drive in self._machine.drives.values() if not drive.read_only]
        for drive in writable:
            if drive.format not in _WITH_SNAPSHOTS:
                raise CommandError(f"Device '{drive.id}' is writable but does not support snapshots")
        if needs_vmstate and not writable:
            raise CommandError(NO_VMSTATE)
        return writable

    @command("x-qmon-query-snapshots")
    async def query_snapshots(self) -> list[dict[str, Any]]:
        """Return the snapshots of each drive that can have any. Raises CommandError if no drive can."""
        drives = self._machine.drives.values()
        able = [drive for drive in drives if drive.format in _WITH_SNAPSHOTS and not drive.read_only]
        if not able:
            raise CommandError(NO_VMSTATE)
        return [
            {"device": drive.id, "snapshots": [snapshot_info(each) for each in drive.layers[0].snapshots]}
            for drive in able
        ]


def _check_name(name: str) -> None:
    try:
        check_name(name)
    except OSError as error:
        raise CommandError(reason(error)) from error


def _named(drive: Drive, name: str) -> list[Snapshot]:
    return [each for each in drive.snapshots if each.name == name]


def _take(drive: Drive, name: str, now_ns: int) -> None:
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    drive.internal_snapshots.take(name, seconds, nanoseconds, instead_of=_named(drive, name))
    drive.look_again()


def _delete(drive: Drive, snapshots: list[Snapshot]) -> None:
    drive.internal_snapshots.delete(snapshots)
    drive.look_again()


def _apply(drive: Drive, name: str) -> None:
    drive.internal_snapshots.apply(_named(drive, name)[0])
    drive.look_again()

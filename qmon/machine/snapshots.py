"""Snapshots of the machine: one name, one moment, several drives.

This machine has no other state than its disks, so its snapshots are its disks' internal snapshots.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from qmon.block.qcow2.internal_snapshots import HAS_BITMAPS, check_name
from qmon.block.qcow2.snapshots import Snapshot
from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.machine.holding import holding
from qmon.machine.machine import Machine
from qmon.machine.runstate import RunState

SNAPSHOT = "snapshot"
"""The user of a drive in messages about a busy drive."""

NO_VMSTATE = "no block device can store vmstate for snapshot"

log = logging.getLogger("qmon.snapshots")


class MachineSnapshots:
    """Takes, loads and deletes snapshots. While it does, a machine that runs stands still.

    Each method raises CommandError with QEMU's message.
    """

    def __init__(self, machine: Machine, exports_of: Callable[[str], Sequence[str]]) -> None:
        """``exports_of`` returns a drive's exports."""
        self._machine = machine
        self._exports_of = exports_of

    def all_drives(self) -> list[Drive]:
        """Return the drives that have the machine's snapshots: those that are not read-only."""
        writable = [drive for drive in self._machine.drives.values() if not drive.read_only]
        for drive in writable:
            _check_able(drive, drive.id)
        return writable

    def drives_of(self, nodes: Sequence[str]) -> list[Drive]:
        """Return the drives whose nodes are named."""
        if not nodes:
            raise CommandError("At least one device is required for snapshot")
        return list(dict.fromkeys(self._drive_of(name) for name in nodes))

    def _drive_of(self, name: str) -> Drive:
        drive = next((each for each in self._machine.drives.values() if each.names.has(name)), None)
        if drive is None:
            raise CommandError(f"No block device node '{name}'")
        is_on_top = name in (drive.names.shown, drive.names.top)
        _check_able(drive if is_on_top and not drive.read_only else None, name)
        return drive

    async def take(self, drives: Sequence[Drive], name: str, now_ns: int) -> None:
        """Take a snapshot of drives; it replaces one of the same name. ``now_ns`` is its time.

        If one drive fails, the snapshots already taken are deleted.
        """
        machine = self._machine
        check_new_name(name)
        async with holding(machine, drives, SNAPSHOT), machine.standing_still(RunState.SAVE_VM):
            done: list[Drive] = []
            for drive in drives:
                try:
                    await machine.blocking(take, drive, name, now_ns)
                except OSError as error:
                    for each in done:
                        await self._forget(each, name)
                    log.error("drive '%s': snapshot '%s' can't be created: %s", drive.id, name, reason(error))
                    raise CommandError(f"Could not create snapshot '{name}' on '{drive.id}'") from error
                done.append(drive)

    async def _forget(self, drive: Drive, name: str) -> None:
        try:
            await self._machine.blocking(delete, drive, named(drive, name))
        except OSError as error:
            log.error("drive '%s': snapshot '%s' can't be deleted: %s", drive.id, name, reason(error))

    async def load(self, drives: Sequence[Drive], name: str) -> None:
        """Load a snapshot of drives. If one fails after others were loaded, the machine stays stopped."""
        machine = self._machine
        async with holding(machine, drives, SNAPSHOT):
            self._check_loadable(drives, name)
            async with machine.standing_still(RunState.RESTORE_VM):
                for number, drive in enumerate(drives):
                    await self._load_one(drive, name, others_are_loaded=number > 0)

    async def _load_one(self, drive: Drive, name: str, *, others_are_loaded: bool) -> None:
        try:
            await self._machine.blocking(_apply, drive, name)
        except OSError as error:
            if others_are_loaded:
                await self._machine.stay_stopped()
            raise CommandError(
                f"Could not load snapshot '{name}' on '{drive.id}': {reason(error)}"
            ) from error

    def check_there(self, drives: Sequence[Drive], name: str) -> None:
        """Check that all drives have a snapshot."""
        if not all(named(drive, name) for drive in drives):
            raise CommandError(f"Snapshot '{name}' does not exist in one or more devices")

    def _check_loadable(self, drives: Sequence[Drive], name: str) -> None:
        self.check_there(drives, name)
        for drive in drives:
            if drive.bitmaps():
                raise CommandError(f"Could not load snapshot '{name}' on '{drive.id}': {HAS_BITMAPS}")
            size = named(drive, name)[0].disk_size
            if size not in (None, drive.size) and self._exports_of(drive.id):
                raise CommandError(
                    f"Could not load snapshot '{name}' on '{drive.id}': it has another size ({size} bytes),"
                    " and NBD clients rely on the current one: remove the drive's exports first"
                )

    async def delete(self, drives: Sequence[Drive], name: str) -> None:
        """Delete a snapshot of drives. Succeeds even if no drive has it."""
        machine = self._machine
        async with holding(machine, drives, SNAPSHOT):
            for drive in drives:
                found = named(drive, name)
                try:
                    if found:
                        await machine.blocking(delete, drive, found)
                except OSError as error:
                    raise CommandError(
                        f"Could not delete snapshot '{name}' on '{drive.id}': {reason(error)}"
                    ) from error


def can_have_snapshots(drive: Drive) -> bool:
    """Whether the format of a drive's image has internal snapshots."""
    return drive.format == "qcow2"


def _check_able(drive: Drive | None, name: str) -> None:
    if drive is None or not can_have_snapshots(drive):
        raise CommandError(f"Device '{name}' is writable but does not support snapshots")


def check_new_name(name: str) -> None:
    """Raises CommandError if no snapshot can have this name."""
    try:
        check_name(name)
    except OSError as error:
        raise CommandError(reason(error)) from error


def named(drive: Drive, name: str) -> list[Snapshot]:
    """Return a drive's snapshots of a name."""
    return [each for each in drive.snapshots if each.name == name]


def take(drive: Drive, name: str, now_ns: int) -> None:
    """Take a snapshot of a drive that nobody uses; it replaces one of the same name. Raises OSError."""
    seconds, nanoseconds = divmod(now_ns, 1_000_000_000)
    drive.internal_snapshots.take(name, seconds, nanoseconds, instead_of=named(drive, name))
    drive.chain.look()


def delete(drive: Drive, snapshots: list[Snapshot]) -> None:
    """Delete snapshots of a drive that nobody uses. Raises OSError."""
    drive.internal_snapshots.delete(snapshots)
    drive.chain.look()


def _apply(drive: Drive, name: str) -> None:
    drive.internal_snapshots.apply(named(drive, name)[0])
    drive.chain.look()

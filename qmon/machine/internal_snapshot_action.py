"""An internal snapshot of one drive, alone or within a transaction."""

from __future__ import annotations

import errno
import logging
import os
import time

from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.machine.snapshots import can_have_snapshots, check_new_name, delete, named, take
from qmon.machine.transaction import Action

log = logging.getLogger("qmon.snapshots")


class InternalSnapshot(Action):
    """``blockdev-snapshot-internal-sync``; undone, it deletes the snapshot again."""

    def __init__(self, machine: Machine, device: str, name: str) -> None:
        self._machine = machine
        self._device = device
        self._name = name

    def drives(self) -> list[Drive]:
        try:
            return [self._machine.disks.root(self._device)]
        except CommandError:
            return []  # ``prepare`` says so, in its turn

    async def prepare(self) -> None:
        drive, device, name = self._machine.disks.root(self._device), self._device, self._name
        if drive.read_only:
            raise CommandError(f"Device '{device}' is read only")
        if not can_have_snapshots(drive):
            raise CommandError(
                f"Block format '{drive.format}' used by device '{device}' does not support internal snapshots"
            )
        if not name:
            raise CommandError("Name is empty")
        check_new_name(name)
        if named(drive, name):
            raise CommandError(f"Snapshot with name '{name}' already exists on device '{device}'")
        try:
            await self._machine.blocking(take, drive, name, time.time_ns())
        except OSError as error:
            log.error("drive '%s': snapshot '%s' can't be created: %s", drive.id, name, reason(error))
            why = os.strerror(error.errno or errno.EIO)
            raise CommandError(f"Failed to create snapshot '{name}' on device '{device}': {why}") from error
        self._drive = drive

    async def abort(self) -> None:
        try:
            await self._machine.blocking(delete, self._drive, named(self._drive, self._name))
        except OSError as error:
            why = reason(error)
            log.error("drive '%s': snapshot '%s' can't be deleted: %s", self._drive.id, self._name, why)

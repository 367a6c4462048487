"""Requests to a drive from a monitor, as QEMU's ``qemu-io`` makes them."""

from __future__ import annotations

import errno
import os
from typing import Any

from qmon.block.accounts import Accounts
from qmon.block.gate import GateShutError
from qmon.block.inactive import InactiveNode
from qmon.block.node import Filter
from qmon.errors import CommandError, DeviceNotFoundError
from qmon.machine.drive import Drive, GuestDisk
from qmon.machine.images import image_info
from qmon.machine.machine import STOPPED, Machine
from qmon.machine.qemu_io.language import Medium, Outcome, run
from qmon.machine.runstate import RunState
from qmon.qmp.registry import command

PATIENCE_SECONDS = 5.0
"""How long a request waits for a disk that is being resized or handed over."""

ENDLESS = 1 << 62
"""The size of a disk that is not there: so that what fails is not its end."""


class QemuIoCommands:
    """A request enters the drive's gate like a guest's, but also while the machine is stopped.

    What a migration is to bring, or brings, is only read: a write would be lost, or hurt what has arrived.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("x-qmon-qemu-io")
    async def qemu_io(self, device: str, command: str, qdev: bool | None = None) -> dict[str, Any]:
        """Run one line of qemu-io's.

        Returns ``output``, what qemu-io prints, ``complaint``, what it prints on its standard error, and
        ``failed``. Raises CommandError for a drive that is not there or takes no requests.
        """
        machine = self._machine
        if qdev:
            raise DeviceNotFoundError(device)
        if device in machine.devices and device not in machine.drives:
            nothing = OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
            medium = Medium(InactiveNode(ENDLESS, False, nothing), Accounts().open(), {})
            outcome = await machine.blocking(run, command, medium)
        else:
            drive = machine.drives.get(device) or machine.find_drive(None, device)
            await machine.wake(drive)
            incoming = machine.state is RunState.INMIGRATE
            outcome = await machine.blocking(_run_inside, command, drive.guest, drive, read_only=incoming)
        return {
            "output": "\n".join(outcome.lines),
            "complaint": "\n".join(outcome.complaints),
            "failed": outcome.failed,
        }


class _ReadOnly(Filter):
    """Commands that write are refused by the interpreter, in QEMU's words."""

    read_only = True


def _run_inside(line: str, disk: GuestDisk, drive: Drive, *, read_only: bool) -> Outcome:
    """Raises CommandError when the gate is not opened in time."""
    try:
        disk.gate.enter_despite(STOPPED, PATIENCE_SECONDS)
    except GateShutError as error:
        raise CommandError(f"drive '{drive.id}': the disk has moved, or is being closed") from error
    except TimeoutError as error:
        raise CommandError(f"drive '{drive.id}': its requests are held for now") from error
    counters = disk.accounts.open()
    try:
        node = _ReadOnly(disk.node) if read_only else disk.node
        return run(line, Medium(node, counters, image_info(drive.layers, drive.size)))
    finally:
        disk.accounts.close(counters)
        disk.gate.leave()

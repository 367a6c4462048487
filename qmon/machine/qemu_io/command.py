"""The command qemu-io: requests to a drive from a monitor, as in QEMU."""

from __future__ import annotations

import errno
import os
from typing import Any

from qmon.block.accounts import Accounts
from qmon.block.gate import GateShutError
from qmon.block.inactive import InactiveNode
from qmon.block.node import Filter
from qmon.errors import CommandError, DeviceNotFoundError
from qmon.machine.drive import Drive
from qmon.machine.guest_disk import GuestDisk
from qmon.machine.images import image_info
from qmon.machine.machine import STOPPED, Machine
from qmon.machine.media import wake
from qmon.machine.qemu_io.language import Medium, Outcome, run
from qmon.machine.runstate import RunState
from qmon.qmp.registry import command

PATIENCE_SECONDS = 5.0
"""How long a request waits at a closed gate, such as during a resize or a switchover."""

ENDLESS = 1 << 62
"""The size of a missing disk: large, so that the error is not that a request is past the end."""


class QemuIoCommands:
    """A request enters the drive's gate like a guest's, but even while the machine is stopped.

    Before and during an incoming migration only reads are allowed: a write would be lost, or damage the copy.
    """

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("x-qmon-qemu-io")
    async def qemu_io(self, device: str, command: str, qdev: bool | None = None) -> dict[str, Any]:
        """Run one qemu-io command.

        Returns ``output`` (qemu-io's standard output), ``complaint`` (its standard error) and ``failed``.
        Raises CommandError if the drive does not exist or accepts no requests.
        """
        machine = self._machine
        if qdev:
            raise DeviceNotFoundError(device)
        if device in machine.disks.devices and device not in machine.drives:
            nothing = OSError(errno.ENOMEDIUM, os.strerror(errno.ENOMEDIUM))
            medium = Medium(InactiveNode(ENDLESS, False, nothing), Accounts().open(), {})
            outcome = await machine.blocking(run, command, medium)
        else:
            drive = machine.drives.get(device) or machine.disks.find_drive(None, device)
            await wake(machine, drive)
            incoming = machine.state is RunState.INMIGRATE
            outcome = await machine.blocking(_run_inside, command, drive.guest, drive, read_only=incoming)
        return {
            "output": "\n".join(outcome.lines),
            "complaint": "\n".join(outcome.complaints),
            "failed": outcome.failed,
        }


class _ReadOnly(Filter):
    """Makes a node read-only, so that ``run`` refuses commands that write, with QEMU's message."""

    read_only = True


def _run_inside(line: str, disk: GuestDisk, drive: Drive, *, read_only: bool) -> Outcome:
    """Run a command inside the drive's gate. Raises CommandError if the gate does not open in time."""
    try:
        disk.gate.enter_despite(STOPPED, PATIENCE_SECONDS)
    except GateShutError as error:
        raise CommandError(f"drive '{drive.id}': the disk has moved to another host, or is closed") from error
    except TimeoutError as error:
        raise CommandError(f"drive '{drive.id}': another command holds its requests: try again") from error
    counters = disk.accounts.open()
    try:
        node = _ReadOnly(disk.node) if read_only else disk.node
        return run(line, Medium(node, counters, image_info(drive.layers, drive.size)))
    finally:
        disk.accounts.close(counters)
        disk.gate.leave()

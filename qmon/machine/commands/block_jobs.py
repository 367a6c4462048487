"""The commands of block jobs (QAPI: block-core.json, job.json). They are refused with QEMU's messages.

Jobs are not supported yet, so no job is ever found.
"""

from __future__ import annotations

import os
from typing import Any, Literal

from qmon.block.image import FORMATS
from qmon.errors import CommandError, reason
from qmon.machine.drive import Drive
from qmon.machine.machine import Machine
from qmon.notation.keyval import is_identifier
from qmon.qmp.registry import command

NOT_THERE = "{command}: copying a disk with a block job is not supported: use migrate -b to copy it to a host"

_Sync = Literal["top", "full", "none", "incremental", "bitmap"]
_Mode = Literal["existing", "absolute-paths"]


def _no_block_job(device: str) -> CommandError:
    return CommandError(f"Block job '{device}' not found", "DeviceNotActive")


class BlockJobCommands:
    """A block-stream with nothing to copy ends at once; other jobs are refused after QEMU's own checks."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("query-block-jobs")
    async def query_block_jobs(self) -> list[dict[str, Any]]:
        return []

    @command("query-jobs")
    async def query_jobs(self) -> list[dict[str, Any]]:
        return []

    @command("block-stream")
    async def stream(
        self,
        device: str,
        job_id: str | None = None,
        base: str | None = None,
        base_node: str | None = None,
        backing_file: str | None = None,
        bottom: str | None = None,
        speed: int = 0,
        on_error: str | None = None,
        filter_node_name: str | None = None,
        auto_finalize: bool | None = None,
        auto_dismiss: bool | None = None,
    ) -> dict[str, Any]:
        """Start a stream. Only an image without a backing file is supported: there is nothing to copy."""
        drive = self._machine.drive(device)
        if base is not None and base_node is not None:
            raise CommandError("'base' and 'base-node' cannot be specified at the same time")
        if base is not None:
            raise CommandError(f"Can't find '{base}' in the backing chain")
        if base_node is not None:
            raise CommandError(f"Cannot find device='' nor node-name='{base_node}'")
        name = drive.id if job_id is None else job_id
        self._check_job(drive, name, speed)
        if len(drive.layers) > 1:
            raise CommandError("block-stream: images with a backing file are not supported")
        self._tell_empty_job(name)
        return {}

    def _check_job(self, drive: Drive, name: str, speed: int) -> None:
        if not is_identifier(name):
            raise CommandError(f"Invalid job ID '{name}'")
        self._machine.check_not_busy(drive)
        if speed < 0:
            raise CommandError("Parameter 'speed' expects a non-negative value")

    def _tell_empty_job(self, name: str) -> None:
        emit = self._machine.registry.events.emit
        for status in ("created", "running", "waiting", "pending"):
            emit("JOB_STATUS_CHANGE", {"status": status, "id": name})
        emit("BLOCK_JOB_COMPLETED", {"device": name, "len": 0, "offset": 0, "speed": 0, "type": "stream"})
        for status in ("concluded", "null"):
            emit("JOB_STATUS_CHANGE", {"status": status, "id": name})

    @command("drive-mirror")
    async def mirror(
        self,
        device: str,
        target: str,
        sync: _Sync,
        job_id: str | None = None,
        format: str | None = None,
        node_name: str | None = None,
        replaces: str | None = None,
        mode: _Mode | None = None,
        speed: int = 0,
        granularity: int | None = None,
        buf_size: int | None = None,
        on_source_error: str | None = None,
        on_target_error: str | None = None,
        unmap: bool | None = None,
        copy_mode: str | None = None,
        auto_finalize: bool | None = None,
        auto_dismiss: bool | None = None,
    ) -> dict[str, Any]:
        await self._check_copy(device, target, format, mode, job_id, speed)
        raise CommandError(NOT_THERE.format(command="drive-mirror"))

    @command("drive-backup")
    async def backup(
        self,
        device: str,
        target: str,
        sync: _Sync,
        job_id: str | None = None,
        format: str | None = None,
        mode: _Mode | None = None,
        speed: int = 0,
        bitmap: str | None = None,
        bitmap_mode: str | None = None,
        compress: bool | None = None,
        on_source_error: str | None = None,
        on_target_error: str | None = None,
        auto_finalize: bool | None = None,
        auto_dismiss: bool | None = None,
        filter_node_name: str | None = None,
    ) -> dict[str, Any]:
        drive = await self._check_copy(device, target, format, mode, job_id, speed)
        if compress and (format or drive.format) == "raw":
            raise CommandError("Compression is not supported for this drive ")
        raise CommandError(NOT_THERE.format(command="drive-backup"))

    async def _check_copy(
        self, device: str, target: str, format: str | None, mode: str | None, job_id: str | None, speed: int
    ) -> Drive:
        """Do the checks that QEMU does before it copies; create nothing."""
        drive = self._machine.drive(device)
        if mode != "existing" and format is not None and format not in FORMATS:
            raise CommandError(f"Unknown file format '{format}'")
        if mode == "existing" and format is not None and format not in FORMATS:
            raise CommandError(f"Unknown driver '{format}'")
        verb = "open" if mode == "existing" else "create"
        looked_at = target if mode == "existing" else os.path.dirname(target) or "."
        try:
            await self._machine.blocking(os.stat, looked_at)
        except (OSError, ValueError) as error:
            raise CommandError(f"Could not {verb} '{target}': {reason(error)}") from error
        self._check_job(drive, drive.id if job_id is None else job_id, speed)
        return drive

    # These commands never find their job.

    @command("block-job-set-speed")
    async def set_speed(self, device: str, speed: int) -> None:
        raise _no_block_job(device)

    @command("block-job-cancel")
    async def cancel(self, device: str, force: bool | None = None) -> None:
        raise _no_block_job(device)

    @command("block-job-pause")
    async def pause(self, device: str) -> None:
        raise _no_block_job(device)

    @command("block-job-resume")
    async def resume(self, device: str) -> None:
        raise _no_block_job(device)

    @command("block-job-complete")
    async def complete(self, device: str) -> None:
        raise _no_block_job(device)

    @command("block-job-finalize")
    async def finalize(self, id: str) -> None:
        raise _no_block_job(id)

    @command("block-job-dismiss")
    async def dismiss(self, id: str) -> None:
        raise _no_block_job(id)

"""The commands of block jobs (QAPI: block-core.json)."""

from __future__ import annotations

import contextlib
import os
from typing import Any, Literal

from qmon.block.image import FORMATS
from qmon.errors import CommandError, reason
from qmon.machine.jobs.block_job import BlockJob
from qmon.machine.jobs.job import Job, Work
from qmon.machine.jobs.table import Jobs, check_id
from qmon.machine.machine import Machine
from qmon.qmp.registry import command


class _Stream(Work):
    """Copies what a backing image has into the image above it. Without a backing image nothing is left."""

    kind = "stream"

    async def run(self, job: Job) -> None:
        pass


class BlockJobCommands:
    """A block-stream with nothing to copy ends at once; no other copying job is supported."""

    def __init__(self, machine: Machine, jobs: Jobs) -> None:
        self._machine = machine
        self._jobs = jobs

    @command("query-block-jobs")
    async def query_block_jobs(self) -> list[dict[str, Any]]:
        return [job.block_info() for job in self._jobs.all() if isinstance(job, BlockJob)]

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
        drive = self._machine.disks.drive(device)
        if base is not None and base_node is not None:
            raise CommandError("'base' and 'base-node' cannot be specified at the same time")
        if base is not None:
            raise CommandError(f"Can't find '{base}' in the backing chain")
        if base_node is not None:
            raise CommandError(f"Cannot find device='' nor node-name='{base_node}'")
        name = job_id if job_id is not None else "" if drive.settings.is_node else drive.id
        with contextlib.ExitStack() as holds:
            holds.enter_context(self._machine.use.changing(drive, f"block job: {_Stream.kind}"))
            if len(drive.layers) > 1:
                check_id(name)
                _check_speed(speed)
                raise CommandError("block-stream: images with a backing file are not supported")
            job = self._jobs.create(
                BlockJob,
                name,
                _Stream(),
                auto_finalize=auto_finalize is not False,
                auto_dismiss=auto_dismiss is not False,
            )
            job.held.push(holds.pop_all())
        if speed < 0:
            job.discard()
            _check_speed(speed)
        job.speed = speed
        await job.start()
        return {}

    @command("x-qmon-check-copy")
    async def check_copy(
        self,
        device: str,
        target: str,
        format: str | None = None,
        mode: Literal["existing", "absolute-paths"] | None = None,
        compress: bool | None = None,
    ) -> dict[str, Any]:
        """Check what QEMU checks before it copies a drive to ``target``. Nothing is created or copied."""
        drive = self._machine.disks.drive(device)
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
        check_id(drive.id)
        self._machine.use.check_not_busy(drive)
        if compress and (format or drive.format) == "raw":
            raise CommandError("Compression is not supported for this drive ")
        return {}

    @command("block-job-set-speed")
    async def set_speed(self, device: str, speed: int) -> None:
        self._jobs.find_block_job(device).set_speed(speed)

    @command("block-job-cancel")
    async def cancel(self, device: str, force: bool | None = None) -> None:
        await self._jobs.find_block_job(device).cancel(force=bool(force))

    @command("block-job-pause")
    async def pause(self, device: str) -> None:
        await self._jobs.find_block_job(device).pause()

    @command("block-job-resume")
    async def resume(self, device: str) -> None:
        await self._jobs.find_block_job(device).resume()

    @command("block-job-complete")
    async def complete(self, device: str) -> None:
        await self._jobs.find_block_job(device).complete()

    @command("block-job-finalize")
    async def finalize(self, id: str) -> None:
        await self._jobs.find_block_job(id).finalize()

    @command("block-job-dismiss")
    async def dismiss(self, id: str) -> None:
        self._jobs.find_block_job(id).dismiss()


def _check_speed(speed: int) -> None:
    if speed < 0:
        raise CommandError("Parameter 'speed' expects a non-negative value")

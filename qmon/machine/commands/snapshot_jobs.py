"""Snapshots of the machine as jobs (QAPI: migration.json)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

from qmon.errors import CommandError
from qmon.machine.jobs.job import Job, Work
from qmon.machine.jobs.table import Jobs
from qmon.machine.snapshots import MachineSnapshots, named
from qmon.qmp.registry import command


class _SnapshotWork(Work):
    def __init__(self, kind: str, act: Callable[[], Awaitable[None]]) -> None:
        self.kind = kind
        self._act = act

    async def run(self, job: Job) -> None:
        job.total = 1
        try:
            await asyncio.sleep(0)  # the command's reply comes first
            await self._act()
        finally:
            job.done = 1


class SnapshotJobs:
    """A new snapshot replaces none. ``vmstate`` must be one of ``devices``; it gets no more than they."""

    def __init__(self, snapshots: MachineSnapshots, jobs: Jobs) -> None:
        self._snapshots = snapshots
        self._jobs = jobs

    async def _start(self, job_id: str, kind: str, act: Callable[[], Awaitable[None]]) -> dict[str, Any]:
        await self._jobs.create(Job, job_id, _SnapshotWork(kind, act)).start()
        return {}

    @command("snapshot-save")
    async def save(self, job_id: str, tag: str, vmstate: str, devices: list[str]) -> dict[str, Any]:
        async def act() -> None:
            drives = self._snapshots.drives_of(devices)
            if any(named(drive, tag) for drive in drives):
                raise CommandError(f"Snapshot '{tag}' already exists in one or more devices")
            _check_vmstate(vmstate, devices)
            await self._snapshots.take(drives, tag, time.time_ns())

        return await self._start(job_id, "snapshot-save", act)

    @command("snapshot-load")
    async def load(self, job_id: str, tag: str, vmstate: str, devices: list[str]) -> dict[str, Any]:
        async def act() -> None:
            drives = self._snapshots.drives_of(devices)
            self._snapshots.check_there(drives, tag)
            _check_vmstate(vmstate, devices)
            await self._snapshots.load(drives, tag)

        return await self._start(job_id, "snapshot-load", act)

    @command("snapshot-delete")
    async def delete(self, job_id: str, tag: str, devices: list[str]) -> dict[str, Any]:
        async def act() -> None:
            await self._snapshots.delete(self._snapshots.drives_of(devices), tag)

        return await self._start(job_id, "snapshot-delete", act)


def _check_vmstate(vmstate: str, devices: list[str]) -> None:
    if vmstate not in devices:
        raise CommandError(f"vmstate block device '{vmstate}' does not exist")

"""The commands of all jobs (QAPI: job.json)."""

from __future__ import annotations

from typing import Any

from qmon.machine.jobs.table import Jobs
from qmon.qmp.registry import command


class JobCommands:
    """Each command finds its job by its id; what the job's state forbids is refused."""

    def __init__(self, jobs: Jobs) -> None:
        self._jobs = jobs

    @command("query-jobs")
    async def query(self) -> list[dict[str, Any]]:
        return [job.info() for job in self._jobs.all()]

    @command("job-pause")
    async def pause(self, id: str) -> None:
        await self._jobs.find(id).pause()

    @command("job-resume")
    async def resume(self, id: str) -> None:
        await self._jobs.find(id).resume()

    @command("job-cancel")
    async def cancel(self, id: str) -> None:
        await self._jobs.find(id).cancel()

    @command("job-complete")
    async def complete(self, id: str) -> None:
        await self._jobs.find(id).complete()

    @command("job-finalize")
    async def finalize(self, id: str) -> None:
        await self._jobs.find(id).finalize()

    @command("job-dismiss")
    async def dismiss(self, id: str) -> None:
        self._jobs.find(id).dismiss()

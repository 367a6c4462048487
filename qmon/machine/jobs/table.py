"""All jobs of the machine, by their ids."""

from __future__ import annotations

from typing import TypeVar

from qmon.errors import CommandError
from qmon.machine.jobs.block_job import BlockJob
from qmon.machine.jobs.job import Job, Work
from qmon.notation.keyval import is_identifier
from qmon.qmp.events import EventBus

_J = TypeVar("_J", bound=Job)


class Jobs:
    """Create it on the loop. A job is in the table from its creation until it is dismissed."""

    def __init__(self, events: EventBus) -> None:
        self._events = events
        self._jobs: dict[str, Job] = {}

    def create(
        self, kind: type[_J], id: str, work: Work, *, auto_finalize: bool = True, auto_dismiss: bool = False
    ) -> _J:
        """Create a job; the caller starts it. Raises CommandError with QEMU's message."""
        check_id(id)
        if id in self._jobs:
            raise CommandError(f"Job ID '{id}' already in use")
        job = kind(
            id,
            work,
            self._events.emit,
            self._forget,
            auto_finalize=auto_finalize,
            auto_dismiss=auto_dismiss,
        )
        self._jobs[id] = job
        return job

    def _forget(self, job: Job) -> None:
        del self._jobs[job.id]

    def all(self) -> list[Job]:
        """Return the jobs, newest first, as QEMU lists them."""
        return list(reversed(self._jobs.values()))

    def find(self, id: str) -> Job:
        """Return a job. Raises CommandError with QEMU's message."""
        job = self._jobs.get(id)
        if job is None:
            raise CommandError("Job not found")
        return job

    def find_block_job(self, id: str) -> BlockJob:
        """Return a block job. Raises CommandError with QEMU's message."""
        job = self._jobs.get(id)
        if not isinstance(job, BlockJob):
            raise CommandError(f"Block job '{id}' not found", "DeviceNotActive")
        return job

    async def close(self) -> None:
        """Cancel all jobs, and wait until their work has ended."""
        for job in list(self._jobs.values()):
            await job.close()


def check_id(id: str) -> None:
    """Raises CommandError with QEMU's message if no job can have this id."""
    if not is_identifier(id):
        raise CommandError(f"Invalid job ID '{id}'")

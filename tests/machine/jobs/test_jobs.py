"""What copying jobs can be asked and what they tell, as it was seen of QEMU 7.2."""

from __future__ import annotations

import asyncio
import errno
import os
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from qmon.errors import CommandError
from qmon.machine.commands.block_jobs import BlockJobCommands
from qmon.machine.commands.jobs import JobCommands
from qmon.machine.jobs.block_job import BlockJob
from qmon.machine.jobs.job import Ending, Job, Work
from qmon.machine.jobs.states import ACCEPTED, TRANSITIONS, Status, Verb
from qmon.machine.jobs.table import Jobs
from qmon.machine.machine import Machine
from qmon.qmp.target import Event


class Copy(Work):
    """Becomes ready when it is let, then ends as it is told."""

    kind = "mirror"

    def __init__(self, *, fails_to_switch: bool = False) -> None:
        self.may_become_ready = False
        self.ended: Ending | None = None
        self._fails = fails_to_switch

    async def run(self, job: Job) -> None:
        job.total = 100
        while not self.may_become_ready:
            await job.pause_point()
            await job.wait_for_news()
        await job.pause_point()
        job.done = 100
        job.become_ready()
        while job.ending is None or job.is_paused:
            await job.pause_point()
            if job.ending is None:
                await job.wait_for_news()
        self.ended = job.ending

    async def prepare(self) -> None:
        if self._fails:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class Lab:
    """A machine's jobs, with what is told, as ``status`` or the event's name."""

    def __init__(self) -> None:
        self.machine = machine = Machine()
        self.jobs = Jobs(machine.registry.events)
        self.registry = machine.registry
        self.registry.add_from(JobCommands(self.jobs))
        self.registry.add_from(BlockJobCommands(machine, self.jobs))
        self.told: list[str] = []
        self.registry.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        self.told.append(event.data.get("status", event.name))

    def taken(self) -> str:
        told, self.told = self.told, []
        return " ".join(told)

    async def start(self, work: Work, id: str = "m", **options: Any) -> BlockJob:
        job = self.jobs.create(BlockJob, id, work, **options)
        await job.start()
        return job

    async def ready(self, **options: Any) -> tuple[BlockJob, Copy]:
        work = Copy()
        work.may_become_ready = True
        job = await self.start(work, **options)
        assert self.taken() == "created running ready BLOCK_JOB_READY"
        return job, work

    async def qmp(self, command: str, **arguments: Any) -> Any:
        return await self.registry.execute(command, arguments)

    async def refused(self, command: str, **arguments: Any) -> str:
        with pytest.raises(CommandError) as caught:
            await self.qmp(command, **arguments)
        return str(caught.value)


def play(scene: Callable[[Lab], Coroutine[Any, Any, None]]) -> None:
    async def within() -> None:
        async with asyncio.timeout(30):
            lab = Lab()
            try:
                await scene(lab)
            finally:
                await lab.jobs.close()
                await lab.machine.close()

    asyncio.run(within())


def test_a_running_job_pauses_resumes_and_is_cancelled() -> None:
    async def scene(lab: Lab) -> None:
        await lab.start(Copy())
        assert lab.taken() == "created running"
        await lab.qmp("job-pause", id="m")
        assert lab.taken() == "paused"
        assert await lab.refused("block-job-pause", device="m") == "Job is already paused"
        (info,) = await lab.qmp("query-block-jobs")
        assert (info["paused"], info["status"], info["busy"], info["ready"]) == (True, "paused", False, False)
        refused = await lab.refused("block-job-cancel", device="m")
        assert refused == "The block job for device 'm' is currently paused"
        await lab.qmp("block-job-set-speed", device="m", speed=7)
        await lab.qmp("job-resume", id="m")
        assert lab.taken() == "running"
        assert await lab.refused("job-resume", id="m") == "Can't resume a job that was not paused"
        await lab.qmp("job-pause", id="m")
        await lab.qmp("block-job-cancel", device="m", force=True)
        assert lab.taken() == "paused running aborting BLOCK_JOB_CANCELLED concluded"
        assert [(job["error"], job["status"]) for job in await lab.qmp("query-jobs")] == [
            ("Operation canceled", "concluded")
        ]

    play(scene)


def test_a_ready_job_ends_as_it_is_told() -> None:
    async def scene(lab: Lab) -> None:
        for command, argument, ending in (
            ("job-complete", "id", Ending.COMPLETE),
            ("block-job-complete", "device", Ending.COMPLETE),
            ("block-job-cancel", "device", Ending.LEAVE),
        ):
            job, work = await lab.ready(auto_dismiss=True)
            await lab.qmp(command, **{argument: "m"})
            assert lab.taken() == "waiting pending BLOCK_JOB_COMPLETED concluded null"
            assert (work.ended, job.error) == (ending, None)

    play(scene)


def test_a_ready_job_that_is_cancelled_by_force_has_no_result() -> None:
    async def scene(lab: Lab) -> None:
        for command, arguments in (
            ("job-cancel", {"id": "m"}),
            ("block-job-cancel", {"device": "m", "force": True}),
        ):
            job, work = await lab.ready(auto_dismiss=True)
            await lab.qmp(command, **arguments)
            assert lab.taken() == "aborting BLOCK_JOB_CANCELLED concluded null"
            assert (work.ended, job.error) == (None, "Operation canceled")

    play(scene)


def test_a_ready_job_stands_by_while_it_is_paused() -> None:
    async def scene(lab: Lab) -> None:
        await lab.ready(auto_finalize=False)
        await lab.qmp("job-pause", id="m")
        await lab.qmp("job-complete", id="m")
        assert lab.taken() == "standby"
        await lab.qmp("job-resume", id="m")
        assert lab.taken() == "ready waiting pending BLOCK_JOB_PENDING"
        await lab.qmp("job-finalize", id="m")
        assert lab.taken() == "BLOCK_JOB_COMPLETED concluded"

    play(scene)


def test_a_result_that_can_not_take_effect_is_the_jobs_error() -> None:
    async def scene(lab: Lab) -> None:
        work = Copy(fails_to_switch=True)
        work.may_become_ready = True
        await lab.start(work)
        await lab.qmp("job-complete", id="m")
        assert lab.taken().endswith("waiting pending aborting BLOCK_JOB_COMPLETED concluded")
        assert (await lab.qmp("query-jobs"))[0]["error"] == "No space left on device"

    play(scene)


def test_a_failed_request_can_pause_the_job() -> None:
    async def scene(lab: Lab) -> None:
        job = await lab.start(Copy())
        job.tell_error("write", "stop", no_space=True)
        assert (await lab.qmp("query-block-jobs"))[0]["io-status"] == "nospace"
        await lab.qmp("block-job-resume", device="m")
        assert (await lab.qmp("query-block-jobs"))[0]["io-status"] == "ok"
        assert lab.taken() == "created running BLOCK_JOB_ERROR"

    play(scene)


def test_the_newest_job_is_listed_first_and_block_jobs_apart() -> None:
    async def scene(lab: Lab) -> None:
        await lab.start(Copy(), "one")
        other = lab.jobs.create(Job, "two", Copy())
        await other.start()
        assert [job["id"] for job in await lab.qmp("query-jobs")] == ["two", "one"]
        assert [job["device"] for job in await lab.qmp("query-block-jobs")] == ["one"]
        assert await lab.refused("block-job-pause", device="two") == "Block job 'two' not found"
        await lab.qmp("job-pause", id="two")

    play(scene)


@pytest.mark.parametrize("verb", Verb)
def test_no_command_is_accepted_after_the_end(verb: Verb) -> None:
    accepted = ACCEPTED[verb] & {Status.ABORTING, Status.CONCLUDED, Status.NULL, Status.UNDEFINED}
    assert accepted == ({Status.CONCLUDED} if verb is Verb.DISMISS else set())


def test_every_job_can_come_to_its_end() -> None:
    def reachable(start: Status) -> set[Status]:
        found, open_ = {start}, [start]
        while open_:
            new = TRANSITIONS[open_.pop()] - found
            found |= new
            open_ += new
        return found

    assert all(Status.NULL in reachable(status) for status in Status)
    assert reachable(Status.UNDEFINED) == set(Status)

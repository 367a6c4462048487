"""A trial that is not waited for any more ends, and keeps nothing from moving afterwards."""

from __future__ import annotations

import asyncio
import threading

import pytest

from qmon.migration.patience import Patience
from tests.support.embedded_lab import EmbeddedLab, Play


def test_an_interrupted_trial_has_ended_when_the_prompt_comes_back(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair(Patience(probe=60))
        trial = asyncio.create_task(source.qmp("x-qmon-migrate-trial", uri=uri, blk=True))
        await asyncio.sleep(0)
        assert (await source.qmp_error("migrate", uri=uri, blk=True)).startswith("A trial of a migration")
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        assert "migration-answers" not in {thread.name for thread in threading.enumerate()}
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("completed")
        await target.wait_status("running")

    play(scene)


def test_a_machine_that_closes_ends_its_trial(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, _, uri = await lab.pair(Patience(probe=60))
        trial = asyncio.create_task(source.qmp_error("x-qmon-migrate-trial", uri=uri, blk=True))
        await asyncio.sleep(0)
        await source.close()
        assert await trial == "the trial was cancelled"

    play(scene)


def test_only_a_machine_that_could_migrate_tries(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair(Patience(probe=0.1))
        said = await target.qmp_error("x-qmon-migrate-trial", uri=uri)
        assert said == "Guest is waiting for an incoming migration"
        found = await source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
        assert found["mismatches"] == []
        assert (found["data"], found["converges"]) == (4096, True)
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("completed")
        said = await source.qmp_error("x-qmon-migrate-trial", uri=uri)
        assert said == "Can't migrate the vm that was paused due to previous migration"

    play(scene)

"""A trial that is not waited for any more ends, and keeps nothing from moving afterwards."""

from __future__ import annotations

import asyncio
import threading

import pytest

from qmon.migration.patience import Patience
from tests.support.embedded_lab import EmbeddedLab, Play


def is_trying() -> bool:
    return any(thread.name.startswith("migration-trial") for thread in threading.enumerate())


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
        while not is_trying():  # noqa: ASYNC110 - a thread is waited for, which has no event here
            await asyncio.sleep(0.001)
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


ON = "on at the source and off at the destination: set it alike on both sides"
OFF = "on at the destination and off at the source: set it alike on both sides"


@pytest.mark.parametrize(
    ("at_source", "at_target", "why"),
    [
        ({"multifd"}, set[str](), f"the capability multifd is {ON}"),
        (set[str](), {"multifd"}, f"the capability multifd is {OFF}"),
        ({"dirty-bitmaps"}, set[str](), "the capability dirty-bitmaps is off at the destination"),
    ],
)
def test_settings_that_would_be_refused_are_refused_in_a_trial(
    play: Play, at_source: set[str], at_target: set[str], why: str
) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair(Patience(probe=0.1))
        await source.qmp("block-dirty-bitmap-add", node="d0", name="b0")
        for side, names in ((source, at_source), (target, at_target)):
            changes = [{"capability": name, "state": True} for name in names]
            await side.qmp("migrate-set-capabilities", capabilities=changes)
        found = await source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
        (said,) = found["mismatches"]
        assert why in said
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_migration("failed")
        assert (await source.qmp("query-migrate"))["error-desc"].endswith(said)

    play(scene)


def test_a_trial_counts_the_bitmaps_that_stay_and_warns_of_what_is_not_granted(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, target, uri = await lab.pair(Patience(probe=0.1))
        for name in ("b0", "b1"):
            await source.qmp("block-dirty-bitmap-add", node="d0", name=name)
        found = await source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
        (left,) = found["x-qmon-stays-behind"]
        assert (left["bitmaps"], left["bitmaps-need"]) == (2, "dirty-bitmaps")
        on = [{"capability": "dirty-bitmaps", "state": True}]
        for side in (source, target):
            await side.qmp("migrate-set-capabilities", capabilities=on)
        mapped = [{"node-name": "d0", "alias": "d0", "bitmaps": [{"name": "b0", "alias": "b0"}]}]
        for side in (source, target):
            await side.qmp("migrate-set-parameters", block_bitmap_mapping=mapped)
        await source.qmp(
            "migrate-set-capabilities", capabilities=[{"capability": "x-qmon-recover", "state": True}]
        )
        off = [{"capability": "x-qmon-forward", "state": False}]
        await target.qmp("migrate-set-capabilities", capabilities=off)
        found = await source.qmp("x-qmon-migrate-trial", uri=uri, blk=True)
        assert found["mismatches"] == []
        (left,) = found["x-qmon-stays-behind"]
        assert (left["bitmaps"], left["bitmaps-need"]) == (1, "block-bitmap-mapping")
        assert [said.split(" is ")[0] for said in found["warnings"]] == [
            "the capability x-qmon-recover",
            "the capability x-qmon-forward",
        ]

    play(scene)

"""The machine's buttons without a guest: what they say and change, and what they must not change."""

from __future__ import annotations

from tests.support.embedded_lab import EmbeddedLab, Play


def test_a_reset_is_told_and_the_machine_runs_on(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        assert await machine.qmp("system_reset") == {}
        assert await machine.qmp("system_powerdown") == {}
        assert await machine.status() == "running"
        reset, powerdown = machine.events
        assert (reset.name, dict(reset.data)) == (
            "RESET",
            {"guest": False, "reason": "host-qmp-system-reset"},
        )
        assert (powerdown.name, dict(powerdown.data)) == ("POWERDOWN", {})

    play(scene)


def test_a_machine_that_is_reset_while_it_stands_has_not_begun(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.qmp("stop")
        await machine.qmp("system_reset")
        assert await machine.status() == "prelaunch"
        await machine.qmp("cont")
        assert await machine.status() == "running"
        assert machine.told == ["STOP", "RESET", "RESUME"]

    play(scene)


def test_a_reset_does_not_give_back_disks_that_were_handed_over(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        source, _, uri = await lab.pair()
        await source.qmp("migrate", uri=uri, blk=True)
        await source.wait_status("postmigrate")
        await source.qmp("system_reset")
        assert await source.status() == "postmigrate"
        assert "migration has moved the disks" in await source.qmp_error("cont")

    play(scene)


def test_a_reset_does_not_end_the_waiting_for_a_migration(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start(lab.settings(lab.image("b.img")), incoming="defer")
        await machine.qmp("system_reset")
        assert await machine.status() == "inmigrate"

    play(scene)

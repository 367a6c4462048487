"""The machine's buttons without a guest: what they say and change, and what they must not change."""

from __future__ import annotations

from tests.support.house import Play, Street


def test_a_reset_is_told_and_the_machine_runs_on(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.one()
        assert await house.ask("system_reset") == {}
        assert await house.ask("system_powerdown") == {}
        assert await house.status() == "running"
        reset, powerdown = house.events
        assert (reset.name, dict(reset.data)) == (
            "RESET",
            {"guest": False, "reason": "host-qmp-system-reset"},
        )
        assert (powerdown.name, dict(powerdown.data)) == ("POWERDOWN", {})

    play(scene)


def test_a_machine_that_is_reset_while_it_stands_has_not_begun(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.one()
        await house.ask("stop")
        await house.ask("system_reset")
        assert await house.status() == "prelaunch"
        await house.ask("cont")
        assert await house.status() == "running"
        assert house.told == ["STOP", "RESET", "RESUME"]

    play(scene)


def test_a_reset_does_not_give_back_disks_that_were_handed_over(play: Play) -> None:
    async def scene(street: Street) -> None:
        source, _, uri = await street.pair()
        await source.ask("migrate", uri=uri, blk=True)
        await source.until(source.status, "postmigrate")
        await source.ask("system_reset")
        assert await source.status() == "postmigrate"
        assert "handed over by a migration" in await source.refusal("cont")

    play(scene)


def test_a_reset_does_not_end_the_waiting_for_a_migration(play: Play) -> None:
    async def scene(street: Street) -> None:
        house = await street.machine(street.settings(street.image("b.img")), incoming="defer")
        await house.ask("system_reset")
        assert await house.status() == "inmigrate"

    play(scene)

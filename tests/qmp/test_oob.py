"""Out-of-band commands: answered while another command of the same client runs, as in QEMU."""

from __future__ import annotations

from typing import Any

import pytest

from qmon.qmp.server import QUEUE_MAX
from tests.support.qmp_house import Client, House, Play

AT_ONCE = {"exec-oob": "migrate-pause", "id": "at once"}


async def negotiated(house: House) -> Client:
    client = await house.connect()
    await client.read()
    assert await client.execute("qmp_capabilities", enable=["oob"]) == {"return": {}}
    return client


async def begin_to_wait(house: House, client: Client) -> None:
    client.write({"execute": "wait", "id": "wait"})
    await house.commands.entered.wait()


def test_one_is_answered_while_another_command_runs(play: Play) -> None:
    async def scene(house: House) -> None:
        client = await negotiated(house)
        await begin_to_wait(house, client)
        assert await client.ask(AT_ONCE) == {"return": {}, "id": "at once"}
        house.commands.may_end.set()
        assert await client.read() == {"return": {}, "id": "wait"}
        await client.close()

    play(scene)


def test_others_wait_for_their_turn(play: Play) -> None:
    async def scene(house: House) -> None:
        client = await negotiated(house)
        await begin_to_wait(house, client)
        client.write({"execute": "nothing", "id": 1})
        client.write({"execute": "echo", "arguments": {"value": 2}, "id": 2})
        assert (await client.ask(AT_ONCE))["id"] == "at once"
        house.commands.may_end.set()
        assert [(await client.read())["id"] for _ in range(3)] == ["wait", 1, 2]
        await client.close()

    play(scene)


@pytest.mark.parametrize(("waiting", "first"), [(QUEUE_MAX - 1, "at once"), (QUEUE_MAX, "wait")])
def test_nothing_is_read_while_the_queue_is_full(play: Play, waiting: int, first: str) -> None:
    async def scene(house: House) -> None:
        client = await negotiated(house)
        await begin_to_wait(house, client)
        for number in range(waiting):
            client.write({"execute": "nothing", "id": number})
        client.write(AT_ONCE)
        async with (
            house.client() as other
        ):  # all that is read of the first client was read when this one is done
            for _ in range(3):
                assert await other.execute("nothing") == {"return": {}}
        house.commands.may_end.set()
        answered = [(await client.read())["id"] for _ in range(waiting + 2)]
        assert answered[0] == first
        assert [each for each in answered if isinstance(each, int)] == list(range(waiting))
        await client.close()

    play(scene)


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ({"exec-oob": "nothing"}, "The command nothing does not support OOB"),
        ({"exec-oob": "qmp_capabilities"}, "The command qmp_capabilities does not support OOB"),
        ({"exec-oob": "none"}, "The command none has not been found"),
        ({"exec-oob": 5}, "QMP input member 'exec-oob' must be a string"),
        (
            {"execute": "nothing", "exec-oob": "migrate-pause"},
            "QMP input member 'execute' clashes with 'exec-oob'",
        ),
    ],
)
def test_what_can_not_be_done_out_of_band_is_told(play: Play, message: Any, said: str) -> None:
    async def scene(house: House) -> None:
        client = await negotiated(house)
        assert (await client.ask(message))["error"]["desc"] == said
        assert await client.ask(AT_ONCE) == {"return": {}, "id": "at once"}
        await client.close()

    play(scene)


@pytest.mark.parametrize("is_negotiated", [False, True])
def test_nothing_is_done_out_of_band_for_a_client_that_has_not_enabled_it(
    play: Play, is_negotiated: bool
) -> None:
    async def scene(house: House) -> None:
        async with house.client(negotiated=is_negotiated) as client:
            if not is_negotiated:
                await client.read()
            answer = await client.ask(AT_ONCE)
            assert answer["error"]["desc"] == "QMP input member 'exec-oob' is unexpected"
            assert answer["id"] == "at once"

    play(scene)


def test_a_client_that_hangs_up_leaves_its_queue(play: Play) -> None:
    """Its commands still run, as in QEMU."""

    async def scene(house: House) -> None:
        client = await negotiated(house)
        await begin_to_wait(house, client)
        client.write({"execute": "nothing"})
        await client.close()
        house.commands.may_end.set()
        async with house.client() as other:
            assert await other.execute("nothing") == {"return": {}}
        assert house.commands.ended == 1

    play(scene)

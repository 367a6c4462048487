"""The QMP server to its clients: plain sockets that break its rules, and qemu.qmp's, which keeps them."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

import pytest
from qemu.qmp import ExecuteError, QMPClient
from qemu.qmp.message import Message

from qmon.errors import CommandError
from qmon.version import VERSION
from tests.support.qmp_house import House, Play
from tests.support.waiting import PATIENCE

NOT_NEGOTIATED = {
    "class": "CommandNotFound",
    "desc": "Expecting capabilities negotiation with 'qmp_capabilities'",
}


NOT_FOUND = {"error": {"class": "CommandNotFound", "desc": "The command none has not been found"}}


def error(desc: str, error_class: str = "GenericError") -> dict[str, Any]:
    return {"error": {"class": error_class, "desc": desc}}


class TestNegotiation:
    def test_it_greets_with_its_version(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client(negotiated=False) as client:
                greeting = await client.read()
                version = greeting["QMP"]["version"]
                assert version == {
                    "qemu": {"major": 7, "minor": 2, "micro": 0},
                    "package": f" (qmon {VERSION})",
                }
                assert greeting["QMP"]["capabilities"] == ["oob"]

        play(scene)

    def test_nothing_is_done_before_it(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client(negotiated=False) as client:
                await client.read()
                assert await client.execute("echo") == {"error": NOT_NEGOTIATED}
                assert await client.execute("no-such-command") == {"error": NOT_NEGOTIATED}
                assert await client.execute("qmp_capabilities") == {"return": {}}
                assert await client.execute("echo") == {"return": {"value": None}}

        play(scene)

    @pytest.mark.parametrize(
        ("arguments", "said"),
        [
            ({"enable": "oob"}, "Invalid parameter type for 'enable', expected: array"),
            ({"enable": [5]}, "Invalid parameter type for 'enable[0]', expected: string"),
            ({"enable": ["x"]}, "Parameter 'null' does not accept value 'x'"),
            ({"x": 1}, "Parameter 'x' is unexpected"),
        ],
    )
    def test_it_fails_for_what_is_not_offered(self, play: Play, arguments: dict[str, Any], said: str) -> None:
        async def scene(house: House) -> None:
            async with house.client(negotiated=False) as client:
                await client.read()
                assert await client.execute("qmp_capabilities", **arguments) == error(said)
                assert await client.execute("echo") == {"error": NOT_NEGOTIATED}
                assert await client.execute("qmp_capabilities", enable=[]) == {"return": {}}

        play(scene)

    def test_it_is_done_once(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                said = "Capabilities negotiation is already complete, command ignored"
                assert await client.execute("qmp_capabilities") == error(said, "CommandNotFound")
                assert await client.execute("nothing") == {"return": {}}

        play(scene)


class TestMessages:
    @pytest.mark.parametrize("id", [5, "x", None, [1, {"a": 2}], {}, 1.5, "\U0001f600"])
    def test_an_id_comes_back_with_results_and_errors(self, play: Play, id: Any) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                assert await client.ask({"execute": "nothing", "id": id}) == {"return": {}, "id": id}
                answer = await client.ask({"execute": "fail", "arguments": {"name": "d0"}, "id": id})
                assert answer == error("Device 'd0' not found", "DeviceNotFound") | {"id": id}
                answer = await client.ask({"execute": "nothing", "more": 1, "id": id})
                assert answer == error("QMP input member 'more' is unexpected") | {"id": id}

        play(scene)

    @pytest.mark.parametrize(
        ("message", "expected"),
        [
            ({}, error("QMP input lacks member 'execute'")),
            ({"execute": 5}, error("QMP input member 'execute' must be a string")),
            ({"execute": None}, error("QMP input member 'execute' must be a string")),
            ({"execute": "echo", "arguments": []}, error("QMP input member 'arguments' must be an object")),
            ({"execute": "echo", "more": 1}, error("QMP input member 'more' is unexpected")),
            ([], error("QMP input must be a JSON object")),
            (b"5\n", error("QMP input must be a JSON object")),
            (b"execute \n", error("JSON parse error, invalid keyword 'execute'")),
            (b'{"execute": }', error("JSON parse error, expecting value")),
            (b"\xff", error("JSON parse error, stray '\N{REPLACEMENT CHARACTER}'")),
            (b"{'execute': 'none', 'id': '\"'}", {"id": '"'} | NOT_FOUND),
            ({"execute": "none"}, error("The command none has not been found", "CommandNotFound")),
            ({"execute": "echo", "arguments": {"x": 1}}, error("Parameter 'x' is unexpected")),
            (
                {"execute": "fail", "arguments": {"name": "d0"}},
                error("Device 'd0' not found", "DeviceNotFound"),
            ),
        ],
    )
    def test_what_can_not_be_done_is_told_and_harms_nothing(
        self, play: Play, message: Any, expected: dict[str, Any]
    ) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                assert await client.ask(message) == expected
                assert await client.execute("echo", value=1) == {"return": {"value": 1}}

        play(scene)

    def test_commands_need_no_line_ends_and_are_answered_in_order(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                for number in range(100):
                    client.write({"execute": "echo", "arguments": {"value": number}, "id": number})
                for number in range(100):
                    assert await client.read() == {"return": {"value": number}, "id": number}

        play(scene)

    def test_a_message_may_come_in_pieces(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                for byte in b'{"execute": "echo", "arguments": {"value": "}{"}}':
                    client.write(bytes([byte]))
                    await client.writer.drain()
                    await asyncio.sleep(0)
                assert await client.read() == {"return": {"value": "}{"}}

        play(scene)

    def test_large_messages_pass_both_ways(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                value = ["x" * 1000] * 2000
                answers = asyncio.create_task(client.execute("echo", value=value))
                assert await answers == {"return": {"value": value}}

        play(scene)

    def test_a_fault_of_ours_is_told_and_logged_and_harms_nothing(
        self, play: Play, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                answer = await client.execute("break")
                assert answer == error("internal error: ZeroDivisionError('a fault of ours')")
                assert await client.execute("nothing") == {"return": {}}

        play(scene)
        assert "ZeroDivisionError" in caplog.text

    def test_a_fault_in_an_answer_costs_that_client_only(
        self, play: Play, caplog: pytest.LogCaptureFixture
    ) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                client.write({"execute": "unsendable"})
                assert await client.at_end()
            async with house.client() as client:
                assert await client.execute("nothing") == {"return": {}}

        play(scene)
        assert "not JSON serializable" in caplog.text


class TestEvents:
    def test_they_come_after_negotiation_only(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client(negotiated=False) as client:
                await client.read()
                house.registry.events.emit("EARLY")
                assert await client.execute("qmp_capabilities") == {"return": {}}
                house.registry.events.emit("LATE", {"x": 1})
                event = await client.read()
                assert (event["event"], event["data"]) == ("LATE", {"x": 1})

        play(scene)

    def test_one_has_the_time_and_no_data_where_there_are_none(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                house.registry.events.emit("STOP")
                event = await client.read()
                timestamp = event.pop("timestamp")
                assert event == {"event": "STOP"}
                assert timestamp["seconds"] > 1_600_000_000
                assert 0 <= timestamp["microseconds"] < 1_000_000

        play(scene)

    def test_one_that_a_command_causes_comes_before_its_answer(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                client.write({"execute": "emit", "arguments": {"name": "X"}, "id": 1})
                assert (await client.read())["event"] == "X"
                assert await client.read() == {"return": {}, "id": 1}

        play(scene)

    def test_one_comes_while_a_command_runs(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as client:
                client.write({"execute": "wait"})
                await house.commands.entered.wait()
                house.registry.events.emit("X")
                assert (await client.read())["event"] == "X"
                house.commands.may_end.set()
                assert await client.read() == {"return": {}}

        play(scene)


class TestClients:
    def test_each_is_served_by_itself(self, play: Play) -> None:
        async def scene(house: House) -> None:
            async with house.client() as first:
                second = await house.connect()
                assert "QMP" in await second.read()
                first.write({"execute": "wait"})
                await house.commands.entered.wait()
                assert await second.execute("nothing") == {"error": NOT_NEGOTIATED}
                assert await second.execute("qmp_capabilities") == {"return": {}}
                house.commands.may_end.set()
                assert await first.read() == {"return": {}}
                await second.close()

        play(scene)

    @pytest.mark.parametrize("begun", [b"", b'{"execute": "ec', b'{"execute": "wait"}'])
    def test_one_that_hangs_up_leaves_the_server_to_the_next(self, play: Play, begun: bytes) -> None:
        """In the middle of nothing, of a message, of a command."""

        async def scene(house: House) -> None:
            client = await house.connect()
            await client.negotiate()
            client.write(begun)
            if b"wait" in begun:
                await house.commands.entered.wait()
            raw = client.writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
            await client.close()
            house.registry.events.emit("NOBODY_HEARS_THIS")
            house.commands.may_end.set()
            async with house.client() as client:
                assert await client.execute("nothing") == {"return": {}}
            assert house.commands.ended == (b"wait" in begun)

        play(scene)

    def test_one_that_sends_no_more_still_gets_its_answers(self, play: Play) -> None:
        async def scene(house: House) -> None:
            client = await house.connect()
            await client.negotiate()
            client.write({"execute": "echo", "arguments": {"value": 1}})
            client.writer.write_eof()
            assert await client.read() == {"return": {"value": 1}}
            assert await client.at_end()
            await client.close()

        play(scene)

    def test_all_are_sent_away_at_the_end(self, play: Play) -> None:
        async def scene(house: House) -> None:
            client = await house.connect()
            await client.negotiate()
            await house.server.close()
            assert await client.at_end()
            await client.close()
            with pytest.raises(OSError, match="No such file"):
                await house.connect()

        play(scene)

    def test_none_is_lost_for_want_of_a_descriptor(
        self, play: Play, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One that can't be accepted now is accepted later."""
        caplog.set_level(logging.WARNING)
        failures = [OSError(24, "Too many open files")]
        accept = socket.socket.accept

        def scarce(sock: socket.socket) -> tuple[socket.socket, Any]:
            if failures:
                raise failures.pop()
            return accept(sock)

        monkeypatch.setattr(socket.socket, "accept", scarce)

        async def scene(house: House) -> None:
            async with house.client() as client:
                assert await client.execute("nothing") == {"return": {}}

        play(scene)
        assert "can't accept a client" in caplog.text
        assert "Too many open files" in caplog.text


class TestQemusClient:
    def test_it_connects_executes_and_leaves(self, play: Play) -> None:
        async def scene(house: House) -> None:
            for _ in range(2):
                client = QMPClient("test")
                await client.connect(str(house.path))
                assert await client.execute("echo", {"value": ["}", "{"]}) == {"value": ["}", "{"]}
                listed = await client.execute("query-commands")
                assert isinstance(listed, list)
                assert {"name": "echo"} in listed
                await client.disconnect()

        play(scene)

    def test_it_learns_what_went_wrong(self, play: Play) -> None:
        async def scene(house: House) -> None:
            client = QMPClient("test")
            await client.connect(str(house.path))
            cases: list[tuple[str, dict[str, object], str, str]] = [
                ("fail", {"name": "d0"}, "DeviceNotFound", "Device 'd0' not found"),
                ("none", {}, "CommandNotFound", "The command none has not been found"),
                ("fail", {}, "GenericError", "Parameter 'name' is missing"),
            ]
            for name, arguments, error_class, desc in cases:
                with pytest.raises(ExecuteError) as caught:
                    await client.execute(name, arguments)
                assert (caught.value.error_class, str(caught.value)) == (error_class, desc)
            await client.disconnect()

        play(scene)

    def test_it_hears_events(self, play: Play) -> None:
        async def scene(house: House) -> None:
            client = QMPClient("test")
            heard: asyncio.Queue[Message] = asyncio.Queue()

            async def listen_to_events() -> None:
                async for message in client.events:
                    heard.put_nowait(message)

            await client.connect(str(house.path))
            listener = asyncio.create_task(listen_to_events())
            await client.execute("emit", {"name": "MIGRATION", "data": {"status": "setup"}})
            message = await asyncio.wait_for(heard.get(), PATIENCE)
            assert (message["event"], message["data"]) == ("MIGRATION", {"status": "setup"})
            listener.cancel()
            await client.disconnect()

        play(scene)

    def test_several_commands_at_once_find_their_answers(self, play: Play) -> None:
        async def scene(house: House) -> None:
            client = QMPClient("test")
            await client.connect(str(house.path))
            answers = await asyncio.gather(*(client.execute("echo", {"value": n}) for n in range(50)))
            assert answers == [{"value": number} for number in range(50)]
            await client.disconnect()

        play(scene)


def test_command_errors_keep_their_class() -> None:
    assert CommandError("x").error_class == "GenericError"
    assert CommandError("x", "DeviceNotActive").error_class == "DeviceNotActive"


def test_an_object_of_any_members_must_be_one(play: Play) -> None:
    async def scene(house: House) -> None:
        async with house.client() as client:
            said = await client.ask({"execute": "emit", "arguments": {"name": "X", "data": 5}})
            assert said == error("Invalid parameter type for 'data', expected: object")

    play(scene)

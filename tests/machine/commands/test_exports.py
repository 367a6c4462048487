"""The NBD server's commands, as far as a real QEMU can't be asked the same."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from qmon.nbd.constants import Command
from tests.support.embedded_lab import EmbeddedLab, Play
from tests.support.ports import free_port
from tests.support.waiting import PATIENCE

FIGURES = ("rd_operations", "rd_bytes", "wr_operations", "wr_bytes", "flush_operations")


def unix(path: Path) -> dict[str, Any]:
    return {"type": "unix", "data": {"path": str(path)}}


def test_an_export_is_listed_with_its_clients(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.qmp("nbd-server-start", addr=unix(tmp_path / "nbd"))
        await machine.qmp("nbd-server-add", device="d0")
        await machine.qmp("nbd-server-add", device="d0", name="again", writable=True)
        guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd", "again")
        (node,) = [entry["inserted"]["node-name"] for entry in await machine.qmp("query-block")]
        common = {"type": "nbd", "node-name": node, "shutting-down": False}
        exports = await machine.qmp("query-block-exports")
        assert [len(export.pop("x-qmon-connections")) for export in exports] == [1, 0]
        assert exports == [
            {**common, "id": "again", "x-qmon-name": "again", "x-qmon-writable": True, "x-qmon-clients": 1},
            {**common, "id": "d0", "x-qmon-name": "d0", "x-qmon-writable": False, "x-qmon-clients": 0},
        ]
        guest.socket.close()

    play(scene)


def test_each_client_is_listed_with_what_it_has_done(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()

        async def connections() -> list[dict[str, Any]]:
            (export,) = await machine.qmp("query-block-exports")
            return [dict(each) for each in export["x-qmon-connections"]]

        await machine.export(tmp_path / "nbd", "d0")
        reader = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        writer = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        for _ in range(3):
            await asyncio.to_thread(reader.ask, Command.READ, 0, 512)
        await asyncio.to_thread(writer.ask, Command.WRITE, 0, data=bytes(4096))
        await asyncio.to_thread(writer.ask, Command.FLUSH)
        done = await connections()
        assert all(0 <= each.pop("seconds") < PATIENCE for each in done)
        nothing = {"address": f"process {os.getpid()}", **dict.fromkeys(FIGURES, 0)}
        assert done == [
            {**nothing, "rd_operations": 3, "rd_bytes": 1536},
            {**nothing, "wr_operations": 1, "wr_bytes": 4096, "flush_operations": 1},
        ]
        reader.socket.close()
        await machine.until(lambda: as_text(connections), "1")
        # the drive keeps the figures of a client that has gone
        (stats,) = await machine.qmp("query-blockstats")
        assert (stats["stats"]["rd_bytes"], stats["stats"]["wr_bytes"]) == (1536, 4096)
        writer.socket.close()

    play(scene)


async def as_text(query: Callable[[], Awaitable[list[Any]]]) -> str:
    return str(len(await query()))


def test_the_server_tells_where_it_listens(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        assert await machine.qmp("x-qmon-query-nbd-server") == {"running": False}
        await machine.qmp("nbd-server-start", addr=unix(tmp_path / "nbd"))
        where = {"running": True, "address": {"type": "unix", "path": str(tmp_path / "nbd")}}
        assert await machine.qmp("x-qmon-query-nbd-server") == where
        await machine.qmp("nbd-server-stop")
        assert await machine.qmp("x-qmon-query-nbd-server") == {"running": False}

    play(scene)


def test_clients_and_failures_are_told(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        (entry,) = await machine.qmp("query-block")

        async def told() -> str:
            return machine.events[-1].name if machine.events else ""

        await machine.export(tmp_path / "nbd", "d0")
        guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        await machine.until(told, "X_QMON_NBD_CLIENT_CONNECTED")
        client = {"export": "d0", "address": f"process {os.getpid()}"}
        assert machine.events[-1].data == {**client, "clients": 1}
        await machine.qmp("x-qmon-fault-add", drive="d0", operation="write", error="ENOSPC")
        for _ in range(3):
            assert (await asyncio.to_thread(guest.ask, Command.WRITE, 0, 512, data=bytes(512))).error
        await machine.until(told, "BLOCK_IO_ERROR")
        assert machine.events[-1].data == {
            "device": "d0",
            "node-name": entry["inserted"]["node-name"],
            "operation": "write",
            "action": "report",
            "nospace": True,
            "reason": "No space left on device",
        }
        await machine.qmp("x-qmon-fault-add", drive="d0", operation="read", error="EIO")
        assert (await asyncio.to_thread(guest.ask, Command.READ, 0, 512)).error
        guest.socket.close()
        await machine.until(told, "X_QMON_NBD_CLIENT_DISCONNECTED")
        assert machine.events[-1].data == {**client, "clients": 0}
        failures = [event.data for event in machine.events if event.name == "BLOCK_IO_ERROR"]
        assert [(each["operation"], each["nospace"]) for each in failures] == [
            ("write", True),
            ("read", False),
        ]

    play(scene)


def test_an_export_in_use_is_removed_by_force_only(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.export(tmp_path / "nbd", "d0")
        guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        assert await machine.qmp_error("nbd-server-remove", name="d0") == "export 'd0' still in use"
        assert await machine.qmp_error("block-export-del", id="d0", mode="safe") == "export 'd0' still in use"
        assert (await asyncio.to_thread(guest.ask, Command.READ, 0, 1)).error == 0
        await machine.qmp("nbd-server-remove", name="d0", mode="hard")
        assert await asyncio.to_thread(guest.at_end)
        guest.socket.close()
        assert await machine.qmp("query-block-exports") == []

    play(scene)


def test_when_the_server_stops_its_exports_and_guests_go_with_it(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        for _ in range(2):
            await machine.export(tmp_path / "nbd", "d0")
            guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
            await machine.qmp("nbd-server-stop")
            assert await asyncio.to_thread(guest.at_end)
            guest.socket.close()
            assert not (tmp_path / "nbd").exists()
            assert await machine.qmp("query-block-exports") == []

    play(scene)


def test_an_address_without_a_host_is_loopback(play: Play) -> None:
    """Whoever wants a network to reach the disks says so."""

    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        port = free_port()
        await machine.qmp("nbd-server-start", addr={"type": "inet", "data": {"host": "", "port": str(port)}})
        with socket.socket() as client:
            client.connect(("127.0.0.1", port))
        with socket.socket() as client, pytest.raises(ConnectionRefusedError):
            client.connect(("127.0.0.2", port))

    play(scene)


def test_an_address_that_is_taken_is_told(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        with socket.socket() as other:
            other.bind(("127.0.0.1", 0))
            other.listen()
            port = str(other.getsockname()[1])
            said = await machine.qmp_error(
                "nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1", "port": port}}
            )
        assert said == "Failed to find an available port: Address already in use"
        await machine.export(tmp_path / "nbd", "d0")
        second = await lab.start()
        said = await second.qmp_error("nbd-server-start", addr=unix(tmp_path / "nbd"))
        assert said == f"Failed to bind socket to {tmp_path}/nbd: Address already in use"

    play(scene)


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ({"type": "inet", "data": {"host": "127.0.0.1"}}, "Parameter 'addr.data.port' is missing"),
        ({"type": "inet", "data": {"port": "1"}}, "Parameter 'addr.data.host' is missing"),
        ({"type": "unix", "data": {}}, "Parameter 'addr.data.path' is missing"),
        ({"type": "unix", "data": {"path": ""}}, "UNIX socket path is missing: write unix:PATH"),
        ({"type": "inet", "host": "h", "port": "5"}, "Parameter 'addr.data' is missing"),
        (
            {"type": "vsock", "data": {"cid": "1", "port": "5"}},
            "Parameter 'addr.type' does not accept value 'vsock': use inet or unix",
        ),
        (
            {"type": "inet", "data": {"host": "h", "port": 5}},
            "Invalid parameter type for 'addr.data.port', expected: string",
        ),
        ({"host": "h", "port": "5"}, "Parameter 'addr.type' is missing"),
        ({"type": "fd", "data": {}}, "Parameter 'addr.data.str' is missing"),
        ({"type": "fd", "data": {"str": "s"}}, "File descriptor named 's' has not been found"),
    ],
)
def test_an_address_that_makes_no_sense_is_told(play: Play, address: dict[str, Any], said: str) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        assert await machine.qmp_error("nbd-server-start", addr=address) == said
        assert await machine.qmp_error("nbd-server-add", device="d0") == "NBD server not running"

    play(scene)


def test_of_two_monitors_that_start_it_at_once_one_does(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        results = await asyncio.gather(
            *(machine.qmp("nbd-server-start", addr=unix(tmp_path / f"nbd{number}")) for number in range(3)),
            return_exceptions=True,
        )
        assert sorted(map(str, results)) == ["NBD server already running"] * 2 + ["{}"]
        assert len([name for name in os.listdir(tmp_path) if name.startswith("nbd")]) == 1

    play(scene)


def test_the_number_of_clients_can_be_limited(play: Play, tmp_path: Path) -> None:
    """One more waits until one leaves."""

    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.qmp("nbd-server-start", addr=unix(tmp_path / "nbd"), max_connections=1)
        await machine.qmp("nbd-server-add", device="d0")
        first = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        second = asyncio.create_task(asyncio.to_thread(lab.guest, tmp_path / "nbd"))
        done, _ = await asyncio.wait([second], timeout=0.1)
        assert not done
        first.socket.close()
        (await second).socket.close()

    play(scene)


def gone(lab_events: list[Any]) -> list[str]:
    return [event.data["id"] for event in lab_events if event.name == "BLOCK_EXPORT_DELETED"]


def test_each_export_that_is_gone_is_told_once(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.qmp("nbd-server-start", addr=unix(tmp_path / "nbd"))
        for name in ("one", "two", "three", "four"):
            await machine.qmp("nbd-server-add", device="d0", name=name)
        await machine.qmp("block-export-del", id="two")
        await machine.qmp("nbd-server-remove", name="one")
        guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd", "three")
        assert await machine.qmp_error("block-export-del", id="three") == "export 'three' still in use"
        assert gone(machine.events) == ["two", "one"]
        await machine.qmp("block-export-del", id="three", mode="hard")
        assert await asyncio.to_thread(guest.at_end)
        guest.socket.close()
        await machine.qmp("x-qmon-drive-del", id="d0")
        assert gone(machine.events) == ["two", "one", "three", "four"]
        await machine.qmp("nbd-server-stop")
        assert gone(machine.events) == ["two", "one", "three", "four"]

    play(scene)


def test_an_export_is_shutting_down_until_its_last_request_is_done(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()

        async def shown() -> str:
            exports = await machine.qmp("query-block-exports")
            return str([(each["id"], each["shutting-down"]) for each in exports])

        async def hits() -> str:
            return str([each["hits"] for each in await machine.qmp("x-qmon-query-faults")])

        await machine.export(tmp_path / "nbd", "d0")
        guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        rule = await machine.qmp("x-qmon-fault-add", drive="d0", operation="read", delay=600_000)
        asking = asyncio.ensure_future(asyncio.to_thread(guest.ask, Command.READ, 0, 512))
        await machine.until(hits, "[1]")
        await machine.qmp("block-export-del", id="d0", mode="hard")
        assert (await shown(), gone(machine.events)) == ("[('d0', True)]", [])
        assert await machine.qmp_error("block-export-del", id="d0") == "export 'd0' still in use"
        assert await machine.qmp("block-export-del", id="d0", mode="hard") == {}
        await machine.qmp("x-qmon-fault-del", id=rule["id"])
        await machine.until(shown, "[]")
        assert gone(machine.events) == ["d0"]
        with contextlib.suppress(ConnectionError):  # its connection was shut down
            await asking
        guest.socket.close()

    play(scene)

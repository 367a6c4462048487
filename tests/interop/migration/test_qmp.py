"""All that the announcement's lines need, by QMP alone: qemu.qmp's client drives both sides."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from qemu.qmp import EventListener, ExecuteError, QMPClient

from tests.support.guest import Guest
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, Qmon
from tests.support.waiting import PATIENCE

SIZE = 8 * MIB


class Side:
    """A connected client, with every MIGRATION event that came."""

    def __init__(self, client: QMPClient, events: EventListener) -> None:
        self.client = client
        self._events = events
        self.statuses: list[str] = []

    async def run(self, command: str, **arguments: Any) -> Any:
        """Run a command; an underscore in an argument's name is a hyphen."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        return await self.client.execute(command, named)

    async def wait_event(self, status: str) -> None:
        """Wait for a MIGRATION event of that status, noting all that come before it."""
        async with asyncio.timeout(PATIENCE):
            while status not in self.statuses:
                event = await self._events.get()
                data = event["data"]
                assert isinstance(data, dict)
                self.statuses.append(data["status"])

    async def status(self) -> str:
        return str((await self.run("query-status"))["status"])


@contextlib.asynccontextmanager
async def connected(qmon: Qmon) -> AsyncIterator[Side]:
    client = QMPClient(qmon.name)
    await client.connect(str(qmon.qmp_path))
    await client.execute(
        "migrate-set-capabilities", {"capabilities": [{"capability": "events", "state": True}]}
    )
    try:
        with client.listener("MIGRATION") as events:
            yield Side(client, events)
    finally:
        await client.disconnect()


@pytest.mark.parametrize(
    "mode", [{}, {"blk": True}, {"blk": True, "inc": True}], ids=["shared", "blk", "inc"]
)
def test_a_disk_moves_by_qmp_alone(lab: Lab, mode: dict[str, bool]) -> None:
    image = filled(lab.folder / "source.img", SIZE)
    arrives_at = blank(lab.folder / "target.img", SIZE) if mode else image
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    source, target = lab.start("source"), lab.start("target", "-incoming", "defer")

    async def prepare(side: Side, file: Path, nbd: Path) -> None:
        added = await side.run("x-qmon-drive-add", id="d0", file=str(file), format="raw")
        assert added == {"id": "d0"}
        await side.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(nbd)}})
        await side.run("nbd-server-add", device="d0", writable=True)
        (export,) = await side.run("query-block-exports")
        assert export["type"] == "nbd"
        (block,) = await side.run("query-block")
        assert (block["device"], block["inserted"]["image"]["virtual-size"]) == ("d0", SIZE)

    async def move() -> None:
        async with connected(source) as here, connected(target) as there:
            await prepare(here, image, source.nbd)
            await prepare(there, arrives_at, target.nbd)
            assert [await side.status() for side in (here, there)] == ["running", "inmigrate"]
            await there.run("migrate-incoming", uri=uri)
            limits = {"max_bandwidth": MIB // 4, "downtime_limit": 500}
            await here.run("migrate-set-parameters", **limits)
            parameters = await here.run("query-migrate-parameters")
            assert (parameters["max-bandwidth"], parameters["downtime-limit"]) == (MIB // 4, 500)
            assert await here.run("query-migrate") == {}
            address = {"type": "unix", "path": uri.removeprefix("unix:")}
            assert await there.run("query-migrate") == {"socket-address": [address]}
            assert await here.run("migrate", uri=uri, **mode) == {}
            if mode:
                await watch(here, there)
                await asyncio.to_thread(write, source.nbd)
                await here.run("migrate-set-parameters", max_bandwidth=0)
            await here.wait_event("completed")
            await there.wait_event("completed")
            for side in (here, there):
                assert (await side.run("query-migrate"))["status"] == "completed"
            assert [await side.status() for side in (here, there)] == ["postmigrate", "running"]
            assert here.statuses == ["setup", "active", "device", "completed"]
            assert there.statuses == ["setup", "active", "device", "completed"]
            with pytest.raises(ExecuteError, match="Can't migrate the vm that was paused due to previous"):
                await here.run("migrate", uri=uri)

    asyncio.run(move())
    if mode:
        expected = bytearray(noise(SIZE))
        expected[MIB : MIB + 4096] = noise(4096, 5)
        assert arrives_at.read_bytes() == expected
        assert same(image, arrives_at)
    with target.guest() as guest:
        assert guest.read(0, 512) == noise(SIZE)[:512]


def write(nbd: Path) -> None:
    with Guest(nbd, "d0") as guest:
        guest.write(MIB, noise(4096, 5))


async def blocks_travel(side: Side) -> Any:
    """Wait until blocks have come or gone; return what ``query-migrate`` said then."""
    async with asyncio.timeout(PATIENCE):
        while True:
            info = await side.run("query-migrate")
            if info["disk"]["transferred"]:
                return info
            await asyncio.sleep(0.01)


async def watch(here: Side, there: Side) -> None:
    """The figures while blocks travel."""
    await here.wait_event("active")
    info = await blocks_travel(here)
    assert info["status"] == "active"
    assert info["disk"]["total"] == SIZE
    assert 0 < info["disk"]["remaining"] <= SIZE
    assert info["total-time"] >= info["setup-time"] >= 0
    arriving = await there.run("query-migrate")
    assert (arriving["status"], arriving["disk"]["total"]) == ("active", SIZE)


def test_a_cancel_and_its_events(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="128k")

    async def move() -> None:
        async with connected(source) as here, connected(target) as there:
            await here.run("migrate", uri=uri, blk=True)
            await there.wait_event("active")
            await blocks_travel(there)
            with pytest.raises(ExecuteError, match="There's a migration process in progress"):
                await here.run("migrate", uri=uri, blk=True)
            await here.run("migrate_cancel")
            await here.wait_event("cancelled")
            await there.wait_event("failed")
            assert "partial" in (await there.run("query-migrate"))["error-desc"]
            assert await here.status() == "running"
            await here.run("migrate-set-parameters", max_bandwidth=0)
            there.statuses.clear()
            await here.run("migrate", uri=uri, blk=True)
            await there.wait_event("completed")
            assert await there.status() == "running"

    asyncio.run(move())
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize(
    ("command", "arguments", "said"),
    [
        ("migrate", {}, "Parameter 'uri' is missing"),
        ("migrate", {"uri": 1}, "Invalid parameter type for 'uri', expected: string"),
        ("migrate", {"uri": "nonsense"}, "Parameter 'uri' expects a valid migration protocol"),
        ("migrate", {"uri": "tcp:0:1", "fast": True}, "Parameter 'fast' is unexpected"),
        ("migrate-set-parameters", {"max-bandwidth": -1}, "Parameter 'max_bandwidth' expects an integer"),
        (
            "migrate-set-parameters",
            {"downtime-limit": 2_000_001},
            "Parameter 'downtime_limit' expects an int",
        ),
        ("migrate-incoming", {"uri": "tcp:0:1"}, "'-incoming' was not specified on the command line"),
        ("x-qmon-drive-add", {"file": "/nowhere"}, "Could not open '/nowhere': No such file or directory"),
        ("x-qmon-drive-add", {"file": "/dev/null", "id": "1x"}, "Parameter 'id' expects an identifier"),
        ("x-qmon-drive-del", {"id": "d9"}, "Device 'd9' not found"),
        ("nbd-server-add", {"device": "d0"}, "NBD server not running"),
    ],
)
def test_what_is_wrong_is_said_as_qmp_says_it(
    qmon: Qmon, command: str, arguments: dict[str, Any], said: str
) -> None:
    async def ask() -> None:
        async with connected(qmon) as side:
            with pytest.raises(ExecuteError) as raised:
                await side.client.execute(command, arguments)
            assert str(raised.value).startswith(said)

    asyncio.run(ask())


@pytest.fixture(scope="module")
def qmon(tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("qmp")
    with Lab(folder) as lab:
        yield lab.start("one", *drive(blank(folder / "disk.img", MIB)))


def test_two_drives_can_not_get_one_name_at_once(lab: Lab) -> None:
    """Two monitors, each with its own image: one of them is told that the name is taken."""
    source = lab.start("source")
    images = [blank(lab.folder / name, MIB) for name in "ab"]

    async def race() -> None:
        async with connected(source) as side:
            line = f"drive_add 0 file={images[0]},id=d0,if=none,format=raw"
            by_monitor = asyncio.to_thread(source.command, line)
            by_qmp = side.run("x-qmon-drive-add", id="d0", file=str(images[1]), format="raw")
            answers = list(await asyncio.gather(by_monitor, by_qmp, return_exceptions=True))
            assert (answers[0] == "OK") != (answers[1] == {"id": "d0"}), answers
            (block,) = await side.run("query-block")
            kept = block["inserted"]["file"]
            (other,) = {str(image) for image in images} - {kept}
            # the other image is not held: it can be a drive of another name
            assert await side.run("x-qmon-drive-add", id="d1", file=other, format="raw") == {"id": "d1"}

    asyncio.run(race())

"""The machine runs, stands still and ends; what guests ask of its disks meanwhile waits."""

from __future__ import annotations

import asyncio
import threading
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from qmon.block import file
from qmon.nbd.constants import Command
from qmon.version import VERSION
from tests.support.embedded_lab import SIZE, EmbeddedLab, Play, play_in
from tests.support.waiting import PATIENCE


def test_it_runs_from_the_start_unless_told_otherwise(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        assert await machine.qmp("query-status") == {
            "status": "running",
            "running": True,
            "singlestep": False,
        }
        machine = await lab.start(paused=True)
        assert await machine.qmp("query-status") == {
            "status": "prelaunch",
            "running": False,
            "singlestep": False,
        }
        await machine.qmp("cont")
        assert await machine.status() == "running"

    play(scene)


def test_stop_and_cont_are_told_once_each(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        for command in ("cont", "stop", "stop", "cont", "cont", "stop"):
            await machine.qmp(command)
        assert machine.told == ["STOP", "RESUME", "STOP"]
        assert await machine.status() == "paused"

    play(scene)


def test_who_it_is(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        id = str(uuid.uuid4())
        machine = await lab.start(name="web", uuid=id)
        assert await machine.qmp("query-name") == {"name": "web"}
        assert await machine.qmp("query-uuid") == {"UUID": id}
        version = await machine.qmp("query-version")
        assert version["qemu"] == {"major": 7, "minor": 2, "micro": 0}
        assert VERSION in version["package"]
        machine = await lab.start()
        assert await machine.qmp("query-name") == {}
        assert await machine.qmp("query-uuid") == {"UUID": str(uuid.UUID(int=0))}

    play(scene)


def test_quit_is_told_and_ends_it(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        assert not machine.embedded.is_quitting
        assert await machine.qmp("quit") == {}
        assert await machine.qmp("quit") == {}
        await asyncio.wait_for(machine.embedded.wait_quit(), PATIENCE)
        assert machine.embedded.is_quitting
        assert machine.told == ["SHUTDOWN"]
        assert machine.events[0].data == {"guest": False, "reason": "host-qmp-quit"}

    play(scene)


class TestRequests:
    def test_they_wait_while_it_stands_and_are_answered_when_it_runs(
        self, play: Play, tmp_path: Path
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            await machine.export(tmp_path / "nbd", "d0")
            guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
            await machine.qmp("stop")
            write = asyncio.create_task(asyncio.to_thread(guest.ask, Command.WRITE, 0, data=b"x" * 512))
            done, _ = await asyncio.wait([write], timeout=0.1)
            assert not done
            assert (tmp_path / "d0.img").read_bytes() == bytes(SIZE)
            await machine.qmp("cont")
            assert (await write).error == 0
            guest.socket.close()

        play(scene)
        assert (tmp_path / "d0.img").read_bytes()[:513] == b"x" * 512 + b"\0"

    def test_stop_has_happened_when_it_returns(
        self, play: Play, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A request that is under way is finished first, and what was written is on the disk."""
        slow = Slow(file.FileNode.write_now)
        monkeypatch.setattr(file.FileNode, "write_now", lambda *arguments: slow(*arguments))
        flushes: list[int] = []
        flush = file.FileNode.flush

        def counted(node: file.FileNode) -> None:
            flushes.append(slow.finished)
            flush(node)

        monkeypatch.setattr(file.FileNode, "flush", counted)

        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            await machine.export(tmp_path / "nbd", "d0")
            guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
            write = asyncio.create_task(asyncio.to_thread(guest.ask, Command.WRITE, 0, data=b"x" * 512))
            await asyncio.to_thread(slow.begun.wait, PATIENCE)
            stop = asyncio.create_task(machine.qmp("stop"))
            done, _ = await asyncio.wait([stop], timeout=0.1)
            assert not done
            slow.may_end.set()
            await stop
            assert flushes == [1]
            assert (await write).error == 0
            guest.socket.close()

        play(scene)

    def test_a_drive_that_is_added_to_a_machine_that_stands_waits_too(
        self, play: Play, tmp_path: Path
    ) -> None:
        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.start(paused=True)
            await machine.qmp("x-qmon-drive-add", id="d0", file=str(lab.image("d0.img")))
            await machine.export(tmp_path / "nbd", "d0")
            guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
            read = asyncio.create_task(asyncio.to_thread(guest.ask, Command.READ, 0, 512))
            done, _ = await asyncio.wait([read], timeout=0.05)
            assert not done
            await machine.qmp("cont")
            assert (await read).data == bytes(512)
            guest.socket.close()

        play(scene)

    def test_a_machine_that_stands_can_be_closed_under_its_guests(self, tmp_path: Path) -> None:
        """Nothing that waits keeps it, and no thread of it is left."""
        before = {thread.ident for thread in threading.enumerate()}
        waiting: list[asyncio.Task[bool]] = []

        async def scene(lab: EmbeddedLab) -> None:
            machine = await lab.one()
            await machine.export(tmp_path / "nbd", "d0")
            guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
            await machine.qmp("stop")
            guest.send(b"")
            waiting.append(asyncio.create_task(asyncio.to_thread(guest.at_end)))
            await asyncio.sleep(0.05)
            await machine.close()
            assert await waiting[0]
            guest.socket.close()

        play_in(tmp_path)(scene)
        left = [each for each in threading.enumerate() if each.ident not in before]
        for thread in left:
            thread.join(PATIENCE)
        assert not [thread for thread in left if thread.is_alive()]


class Slow:
    """A call that waits, once begun, until it may end."""

    def __init__(self, call: Callable[..., bool | None]) -> None:
        self._call = call
        self.begun = threading.Event()
        self.may_end = threading.Event()
        self.finished = 0

    def __call__(self, *arguments: object) -> bool | None:
        self.begun.set()
        self.may_end.wait(PATIENCE)
        done = self._call(*arguments)
        self.finished += 1
        return done

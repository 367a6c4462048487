"""A machine stands still while its snapshot is taken or loaded; what else is asked of it meanwhile waits."""

from __future__ import annotations

import asyncio
import errno
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from qmon.block.file import FileNode
from qmon.block.qcow2.create import write_image
from qmon.block.qcow2.layout import NewImage
from qmon.machine import snapshots
from qmon.machine.drive import Drive
from qmon.nbd.constants import Command
from qmon.notation.drive_options import DriveOptions
from tests.support.embedded_lab import SIZE, EmbeddedLab, LabMachine, Play
from tests.support.waiting import PATIENCE


def qcow2(folder: Path, id: str) -> DriveOptions:
    path = folder / f"{id}.qcow2"
    path.touch()
    file = FileNode(str(path), read_only=False, locks=None)
    write_image(file, NewImage(SIZE))
    file.close()
    return DriveOptions(id, str(path), "qcow2", "none", False, node_name=f"{id}-node")


async def two(lab: EmbeddedLab, **options: Any) -> LabMachine:
    return await lab.start(qcow2(lab.folder, "d0"), qcow2(lab.folder, "d1"), **options)


def test_stop_waits_for_the_snapshot_and_then_stops(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    began, may_go_on = threading.Event(), threading.Event()
    really = snapshots.take

    def slowly(drive: Drive, name: str, now_ns: int) -> None:
        began.set()
        may_go_on.wait(PATIENCE)
        really(drive, name, now_ns)

    monkeypatch.setattr(snapshots, "take", slowly)

    async def scene(lab: EmbeddedLab) -> None:
        machine = await two(lab)
        await machine.export(lab.folder / "nbd", "d1")
        guest = await asyncio.to_thread(lab.guest, lab.folder / "nbd", "d1")
        await machine.qmp("snapshot-save", job_id="j", tag="t", vmstate="d0-node", devices=["d0-node"])
        await asyncio.to_thread(began.wait)
        writing = asyncio.create_task(asyncio.to_thread(guest.ask, Command.WRITE, 0, data=b"a" * 512))
        assert await machine.status() == "save-vm"
        assert (await machine.qmp("query-jobs"))[0]["status"] == "running"
        busy = await machine.qmp_error("block_resize", device="d0", size=2 * SIZE)
        assert busy == "Node 'd0' is busy: block device is in use by snapshot"
        stopping = asyncio.create_task(machine.qmp("stop"))
        await asyncio.sleep(0)
        assert not writing.done()
        may_go_on.set()
        await stopping
        assert [each for each in machine.told if each in ("STOP", "RESUME")] == ["STOP", "RESUME", "STOP"]
        assert await machine.status() == "paused"
        assert [len(each["snapshots"]) for each in await machine.qmp("x-qmon-query-snapshots")] == [1, 0]
        await machine.qmp("cont")
        await writing
        await asyncio.to_thread(guest.close)

    play(scene)


def test_a_load_that_fails_half_way_leaves_the_machine_stopped(
    play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    really = snapshots._apply

    def half(drive: Drive, name: str) -> None:
        if drive.id == "d1":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        really(drive, name)

    monkeypatch.setattr(snapshots, "_apply", half)

    async def scene(lab: EmbeddedLab) -> None:
        machine = await two(lab)
        await machine.qmp("x-qmon-savevm", name="t")
        machine.events.clear()
        failed = await machine.qmp_error("x-qmon-loadvm", name="t")
        assert failed == "Could not load snapshot 't' on 'd1': Input/output error"
        assert machine.told == ["STOP"]
        assert await machine.status() == "paused"
        await machine.qmp("cont")
        assert await machine.status() == "running"

    play(scene)


def test_a_machine_that_is_stopped_stays_so(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await two(lab, paused=True)
        await machine.qmp("x-qmon-savevm", name="t")
        await machine.qmp("x-qmon-loadvm", name="t")
        assert machine.told == []
        assert await machine.status() == "prelaunch"

    play(scene)


def test_a_drive_that_a_job_holds_is_left_alone(play: Play) -> None:
    """A migration, a removal, a resize, a snapshot and another job are refused until the job is gone."""

    async def scene(lab: EmbeddedLab) -> None:
        machine = await two(lab)
        await machine.qmp("block-stream", device="d0", auto_finalize=False)
        busy = "Node 'd0' is busy: block device is in use by block job: stream"
        for command, arguments in (
            ("block_resize", {"device": "d0", "size": 2 * SIZE}),
            ("x-qmon-drive-del", {"id": "d0"}),
            ("x-qmon-savevm", {"name": "t"}),
            ("block-stream", {"device": "d0", "job_id": "other"}),
            ("migrate", {"uri": f"unix:{lab.folder}/in", "blk": True}),
        ):
            assert await machine.qmp_error(command, **arguments) == busy, command
        await machine.qmp("job-finalize", id="d0")
        await machine.qmp("x-qmon-savevm", name="t")
        assert await machine.qmp("query-jobs") == []

    play(scene)

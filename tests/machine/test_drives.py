"""Drives come, go and are shown; what can't be done is told with the drive's or the file's name."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from qmon.errors import CommandError, DeviceNotFoundError
from qmon.nbd.constants import Command
from tests.support.embedded_lab import SIZE, EmbeddedLab, Play, play_in
from tests.support.locks_probe import locked_bytes


def test_a_drive_is_shown_as_qmp_shows_it(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        image = lab.image("d0.img", b"x" * 4096)
        machine = await lab.start(
            lab.settings(image), lab.settings(lab.image("d1.img"), "d1", read_only=True)
        )
        first, second = await machine.qmp("query-block")
        inserted = first["inserted"]
        assert first["device"] == "d0"
        assert (inserted["file"], inserted["drv"], inserted["ro"]) == (str(image), "raw", False)
        assert inserted["image"]["virtual-size"] == SIZE
        assert 4096 <= inserted["image"]["actual-size"] < SIZE
        assert (second["device"], second["inserted"]["ro"]) == ("d1", True)
        assert inserted["node-name"] != second["inserted"]["node-name"]
        image.unlink()
        assert (await machine.qmp("query-block"))[0]["inserted"]["image"]["actual-size"] == 0

    play(scene)


def test_a_drive_comes_and_goes(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        image = lab.image("a.img")
        assert await machine.qmp("query-block") == []
        assert await machine.qmp("x-qmon-drive-add", id="a", file=str(image), format="raw") == {"id": "a"}
        assert locked_bytes(image) == {100, 101, 201}
        assert await machine.qmp("x-qmon-drive-del", id="a") == {}
        assert locked_bytes(image) == set()
        assert await machine.qmp("query-block") == []
        assert await machine.qmp("x-qmon-drive-add", id="a", file=str(image), readonly=True) == {"id": "a"}
        assert locked_bytes(image) == {100, 201}

    play(scene)


def test_a_drive_comes_with_its_limits_or_not_at_all(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        put = {"id": "a", "file": str(lab.image("a.img")), "format": "raw"}
        wrong = {"bps-total": 1, "bps-read": 1}
        said = "bps/iops/max total values and read/write values cannot be used at the same time"
        assert await machine.qmp_error("x-qmon-drive-add", **put, throttling=wrong) == said
        assert await machine.qmp("query-block") == []
        assert "unexpected" in await machine.qmp_error("x-qmon-drive-add", **put, throttling={"speed": 1})
        await machine.qmp("x-qmon-drive-add", **put, throttling={"bps-write": 4096}, group="slow")
        (shown,) = await machine.qmp("query-block")
        assert (shown["inserted"]["bps_wr"], shown["inserted"]["group"]) == (4096, "slow")

    play(scene)


def test_a_drive_without_a_name_gets_the_first_that_is_free(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        for expected in ("none0", "none1"):
            path = str(lab.image(expected))
            assert await machine.qmp("x-qmon-drive-add", file=path) == {"id": expected}
        path = str(lab.image("virtio0"))
        refusal = await machine.qmp_error("x-qmon-drive-add", **{"file": path, "if": "virtio"})
        assert refusal == "Can't hot-add drive to type 7"
        await machine.qmp("x-qmon-drive-del", id="none0")
        path = str(lab.image("again"))
        assert await machine.qmp("x-qmon-drive-add", file=path) == {"id": "none0"}

    play(scene)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"id": "d0", "file": "{folder}/new"}, "Duplicate ID 'd0' for drive"),
        ({"id": "x", "file": "{folder}/none"}, "Could not open '{folder}/none': No such file or directory"),
        ({"id": "x", "file": "{folder}"}, "'file' driver requires '{folder}' to be a regular file"),
        (
            {"id": "x", "file": "{folder}/fifo"},
            "Could not open '{folder}/fifo': not a regular file or block device",
        ),
        ({"id": "x", "file": "{folder}/new", "format": "nonsense"}, "Unknown driver 'nonsense'"),
        ({"id": "x", "file": "a\0b"}, "Could not open 'a\0b': the name contains a null byte"),
        ({"id": "9x", "file": "{folder}/new"}, "Parameter 'id' expects an identifier"),
        ({"id": "", "file": "{folder}/new"}, "Parameter 'id' expects an identifier"),
        ({"id": "a b", "file": "{folder}/new"}, "Parameter 'id' expects an identifier"),
        ({"id": "x", "format": "raw"}, 'A block device must be specified for "file"'),
        ({"id": "x", "file": "{folder}/new", "unit": 0}, "drive with bus=0, unit=0 (index=-1) exists"),
    ],
)
def test_a_drive_that_can_not_be_added_is_told_why(play: Play, options: dict[str, object], said: str) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        lab.image("new")
        os.mkfifo(lab.folder / "fifo")
        put = {
            key: value.format(folder=lab.folder) if isinstance(value, str) else value
            for key, value in options.items()
        }
        assert await machine.qmp_error("x-qmon-drive-add", **put) == said.format(folder=lab.folder)
        assert [entry["device"] for entry in await machine.qmp("query-block")] == ["d0"]
        assert locked_bytes(lab.folder / "new") == set()

    play(scene)


@pytest.mark.parametrize("read_only", [False, True])
def test_a_second_drive_of_one_image_can_be_used_once_the_first_has_gone(play: Play, read_only: bool) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        image = lab.folder / "d0.img"
        await machine.qmp("x-qmon-drive-add", id="x", file=str(image), readonly=read_only)
        assert [entry["device"] for entry in await machine.qmp("query-block")] == ["d0", "x"]
        await machine.qmp(
            "nbd-server-start", addr={"type": "unix", "data": {"path": str(lab.folder / "nbd")}}
        )
        said = f"Could not open '{image}': Failed to get"
        assert (await machine.qmp_error("nbd-server-add", device="x")).startswith(said)
        with pytest.raises(CommandError, match="Failed to get"):
            await machine.embedded.registry.execute(
                "x-qmon-qemu-io", {"device": "x", "command": "read 0 512"}
            )
        assert "remove one of them" in await machine.qmp_error("migrate", uri=f"unix:{lab.folder}/m")
        await machine.qmp("stop")
        await machine.qmp("cont")
        await machine.qmp("x-qmon-drive-del", id="d0")
        await machine.qmp("nbd-server-add", device="x")
        assert locked_bytes(image) == ({100, 201} if read_only else {100, 101, 201})

    play(scene)


def test_of_two_monitors_that_add_one_name_at_once_one_does(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.start()
        images = [lab.image(f"{number}.img") for number in range(4)]
        results = await asyncio.gather(
            *(machine.qmp("x-qmon-drive-add", id="d0", file=str(image)) for image in images),
            return_exceptions=True,
        )
        assert sorted(map(str, results)) == ["Duplicate ID 'd0' for drive"] * 3 + ["{'id': 'd0'}"]
        assert sum(bool(locked_bytes(image)) for image in images) == 1

    play(scene)


def test_a_drive_that_is_not_there_can_not_be_removed(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        with pytest.raises(DeviceNotFoundError, match="Device 'nope' not found"):
            await machine.qmp("x-qmon-drive-del", id="nope")

    play(scene)


def test_with_a_drive_go_its_exports_and_their_guests(play: Play, tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.export(tmp_path / "nbd", "d0")
        guest = await asyncio.to_thread(lab.guest, tmp_path / "nbd")
        reply = await asyncio.to_thread(guest.ask, Command.READ, 0, 512)
        assert (reply.error, reply.data) == (0, bytes(512))
        await machine.qmp("x-qmon-drive-del", id="d0")
        assert await asyncio.to_thread(guest.at_end)
        guest.socket.close()
        assert await machine.qmp("query-block-exports") == []
        assert locked_bytes(tmp_path / "d0.img") == set()

    play(scene)


def test_a_machine_that_is_closed_holds_nothing(tmp_path: Path) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        machine = await lab.one()
        await machine.export(tmp_path / "nbd", "d0")

    play_in(tmp_path)(scene)
    assert locked_bytes(tmp_path / "d0.img") == set()
    assert not (tmp_path / "nbd").exists()


def test_a_machine_whose_drive_can_not_be_opened_does_not_start(play: Play) -> None:
    async def scene(lab: EmbeddedLab) -> None:
        await lab.one()
        with pytest.raises(CommandError, match=r"Could not open '.*d0.img': Failed to get \"write\" lock"):
            await lab.start(lab.settings(lab.folder / "d0.img"))

    play(scene)

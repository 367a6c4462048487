"""Every line that a storage daemon can run, on 7.2 and 10, and what it does to the disks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, noise
from tests.support.peers import require
from tests.support.storage_daemon import DAEMONS, Seat, StorageDaemon
from tests.support.waiting import PATIENCE, eventually

SIZE = 4 * MIB


@pytest.fixture(params=list(DAEMONS.values()), ids=list(DAEMONS))
def seat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Seat]:
    require("qemu-img", "qemu-io", request.param[0])
    (tmp_path / "base.img").write_bytes(noise(SIZE))
    img("create -q -f qcow2 -F raw -b base.img d0.qcow2", tmp_path)
    write("d0.qcow2", 1 * MIB, 7, tmp_path)
    daemon = StorageDaemon(request.param, tmp_path)
    try:
        seat = Seat(daemon)
        try:
            yield seat
        finally:
            seat.close()
    finally:
        daemon.close()


def img(words: str, folder: Path) -> str:
    done = subprocess.run(
        ["qemu-img", *words.split()], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def write(image: str, offset: int, pattern: int, folder: Path, size: int = 64 << 10) -> None:
    """Write to an image, or to an export by its URI, as another program does."""
    command = [
        "qemu-io",
        "-f",
        "raw" if ":" in image else "qcow2",
        "-c",
        f"write -P {pattern} {offset} {size}",
        image,
    ]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def same(one: str, other: str, folder: Path) -> bool:
    return (
        subprocess.run(["qemu-img", "compare", "-U", one, other], cwd=folder, capture_output=True).returncode
        == 0
    )


def chain(image: str, folder: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(img(f"info -U --backing-chain --output json {image}", folder))
    return told


def contents(image: str, folder: Path) -> bytes:
    img(f"convert -U -O raw {image} contents.tmp", folder)
    return (folder / "contents.tmp").read_bytes()


def expected(*writes: tuple[int, int]) -> bytes:
    """The disk's contents after writes of 64 KiB, (offset, pattern)."""
    data = bytearray(noise(SIZE))
    for offset, pattern in writes:
        data[offset : offset + (64 << 10)] = bytes([pattern]) * (64 << 10)
    return bytes(data)


def remove_export(seat: Seat, name: str) -> None:
    """Remove an export once the daemon knows that its client, which has ended, has left it."""

    def is_removed() -> bool:
        said = seat.says(f"nbd_server_remove {name}")
        assert not said or "still in use" in said, said
        return not said

    eventually(is_removed, f"the export {name} is removed")


D0 = "drive_add 0 file=d0.qcow2,format=qcow2,if=none,id=d0,discard=on"


def test_a_disk_is_added_listed_and_removed(seat: Seat) -> None:
    assert seat.says("info block") == ""
    assert seat.says(D0) == "OK"
    assert seat.says("info block") == (
        "d0: d0.qcow2 (qcow2)\n    Cache mode:       writeback\n"
        "    Backing file:     base.img (chain depth: 1)"
    )
    assert "virtual size: 4 MiB" in seat.says("info block -v d0")
    assert seat.says("info block -n").count("Cache mode") == 4
    assert seat.says("drive_add 0 file=d0.qcow2,id=x") == (
        "a storage daemon does not find out the format: write format=qcow2 or format=raw"
    )
    seat.quietly("drive_del d0")
    assert seat.says("info block") == ""
    assert "nosuch" in seat.says("drive_del nosuch")


def test_a_disk_is_written_to_its_backing_image_and_stays_in_use(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("nbd_server_start unix:nbd", "nbd_server_add -w d0", "commit d0")
    assert (seat.folder / "base.img").read_bytes() == expected((MIB, 7))
    write("nbd+unix:///d0?socket=nbd", 2 * MIB, 9, seat.folder)
    assert (seat.folder / "base.img").read_bytes() == expected((MIB, 7))
    write("nbd+unix:///d0?socket=nbd", MIB, 11, seat.folder)
    seat.quietly("commit all", "nbd_server_stop", "drive_del d0")
    assert (seat.folder / "base.img").read_bytes() == expected((MIB, 11), (2 * MIB, 9))
    assert same("base.img", "d0.qcow2", seat.folder)
    assert seat.qmp("query-jobs") == []


def test_a_disk_is_resized(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("block_resize d0 8M")
    assert "virtual size: 8 MiB" in seat.says("info block -v d0")
    seat.quietly("drive_del d0")
    assert chain("d0.qcow2", seat.folder)[0]["virtual-size"] == 2 * SIZE
    assert contents("d0.qcow2", seat.folder) == expected((MIB, 7)) + bytes(SIZE)


def test_a_disk_takes_in_its_backing_images(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("block_stream d0 256K", "block_job_set_speed d0 0", "wait job d0", "drive_del d0")
    assert "backing-filename" not in chain("d0.qcow2", seat.folder)[0]
    assert contents("d0.qcow2", seat.folder) == expected((MIB, 7))


def test_a_mirror_follows_its_disk_until_it_is_cancelled_softly(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("nbd_server_start unix:nbd", "nbd_server_add -w d0")
    seat.quietly("drive_mirror -f d0 copy.qcow2 qcow2", "wait job d0")
    assert seat.says("info block-jobs") == (
        "Type mirror, device d0: Completed 4194304 of 4194304 bytes, speed limit 0 bytes/s"
    )
    assert seat.offered("block_job_cancel ") == ["d0", "-f"]
    assert seat.offered("wait job ") == ["d0"]
    assert [line for line in seat.says("info block").split("\n") if line[:1].strip()] == [
        "d0: d0.qcow2 (qcow2)"
    ]
    write("nbd+unix:///d0?socket=nbd", 2 * MIB, 9, seat.folder)
    seat.quietly("block_job_pause d0", "block_job_resume d0", "block_job_cancel d0", "wait job d0")
    assert contents("copy.qcow2", seat.folder) == expected((MIB, 7), (2 * MIB, 9))
    assert chain("copy.qcow2", seat.folder)[0].get("backing-filename") is None
    assert not [each for each in seat.events if each.name == "BLOCK_JOB_COMPLETED" and "error" in each.data]


def test_a_mirror_may_take_the_disks_place(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("nbd_server_start unix:nbd", "nbd_server_add -w d0", "drive_mirror -f d0 copy.img raw")
    seat.quietly("wait job d0", "block_job_complete d0")
    seat.says("wait job d0")  # it may have ended already
    write("nbd+unix:///d0?socket=nbd", 2 * MIB, 9, seat.folder)
    assert contents("copy.img", seat.folder) == expected((MIB, 7), (2 * MIB, 9))
    assert contents("d0.qcow2", seat.folder) == expected((MIB, 7))


def test_a_backup_is_the_disk_as_it_was(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("drive_backup -f d0 copy.img raw", "wait job d0")
    seat.quietly("drive_backup d0 top.qcow2 qcow2", "wait job d0")
    assert contents("copy.img", seat.folder) == expected((MIB, 7))
    assert contents("top.qcow2", seat.folder) == expected((MIB, 7))
    assert "no such job" not in seat.says("info block-jobs")


def test_a_snapshots_overlay_stays_without_an_export(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    assert seat.says("snapshot_blkdev d0 snap.qcow2") == "'d0-1' is the disk now, and 'd0' its backing node"
    assert seat.says("info block").startswith("d0-1: snap.qcow2 (qcow2)")
    seat.quietly("nbd_server_start unix:nbd", "nbd_server_add -w d0-1 d0")
    write("nbd+unix:///d0?socket=nbd", 2 * MIB, 9, seat.folder)
    remove_export(seat, "d0")
    seat.quietly("nbd_server_add -w d0-1 d0")
    write("nbd+unix:///d0?socket=nbd", 3 * MIB, 10, seat.folder)
    assert seat.says("snapshot_blkdev d0-1 more.qcow2 qcow2") == (
        "'d0-2' is the disk now, and 'd0-1' its backing node"
    )
    write("nbd+unix:///d0?socket=nbd", 0, 12, seat.folder)
    seat.quietly("nbd_server_stop", "drive_del d0-2", "drive_del d0-1", "drive_del d0")
    assert contents("d0.qcow2", seat.folder) == expected((MIB, 7))
    assert contents("snap.qcow2", seat.folder) == expected((MIB, 7), (2 * MIB, 9), (3 * MIB, 10))
    assert contents("more.qcow2", seat.folder) == expected((MIB, 7), (2 * MIB, 9), (3 * MIB, 10), (0, 12))
    names = [each["filename"] for each in chain("more.qcow2", seat.folder)]
    assert names == ["more.qcow2", "snap.qcow2", "d0.qcow2", "base.img"]


def test_a_snapshot_that_would_not_find_its_backing_image_is_refused(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    assert "would not find 'd0.qcow2'" in seat.says(f"snapshot_blkdev d0 {seat.folder}/snap.qcow2")
    assert not [each for each in seat.qmp("query-named-block-nodes") if "snap" in each["file"]]
    (seat.folder / "sub").mkdir()
    assert "'d0-1' is the disk now" in seat.says("snapshot_blkdev d0 sub/snap.qcow2")
    seat.quietly("drive_del d0-1", "drive_del d0")
    assert contents("sub/snap.qcow2", seat.folder) == expected((MIB, 7))


def test_a_snapshot_never_destroys_a_file(seat: Seat) -> None:
    precious = seat.folder / "precious.txt"
    precious.write_text("precious")
    assert seat.says(D0) == "OK"
    in_the_way = "Error: Could not create '{}': it already exists and is not empty"
    assert seat.says("snapshot_blkdev d0 precious.txt qcow2") == in_the_way.format("precious.txt")
    assert seat.says("snapshot_blkdev d0 d0.qcow2 qcow2") == in_the_way.format("d0.qcow2")
    assert "'d0-1' is the disk now" in seat.says("snapshot_blkdev d0 snap.qcow2")
    below = "'d0' is below another node: 'info block' lists the disks, which are on top"
    assert seat.says("snapshot_blkdev d0 precious.txt qcow2") == below
    assert seat.says("snapshot_blkdev d0 fresh.qcow2 qcow2") == below
    assert seat.says("commit d0") == below
    assert not (seat.folder / "fresh.qcow2").exists()
    assert precious.read_text() == "precious"
    (seat.folder / "empty").touch()
    assert "'d0-2' is the disk now" in seat.says("snapshot_blkdev d0-1 empty qcow2")
    seat.quietly("drive_del d0-2", "drive_del d0-1", "drive_del d0")
    assert contents("empty", seat.folder) == expected((MIB, 7))


def test_snapshots_inside_an_image(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("snapshot_blkdev_internal d0 before")
    assert "before" in seat.says("info snapshots")
    assert [each["name"] for each in chain("d0.qcow2", seat.folder)[0]["snapshots"]] == ["before"]
    assert seat.offered("snapshot_delete_blkdev_internal d0 ") == ["before"]
    seat.quietly("snapshot_delete_blkdev_internal d0 before")
    assert seat.says("info snapshots") == "There is no snapshot available."


def test_exports_are_served_by_name(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    assert seat.says("drive_add 0 file=base.img,format=raw,id=ro,readonly=on") == "OK"
    seat.quietly("nbd_server_start -a unix:nbd")
    assert seat.says("info nbd") == "Export 'd0': node 'd0'\nExport 'ro': node 'ro'"
    assert same("nbd+unix:///d0?socket=nbd", "nbd+unix:///d0?socket=nbd", seat.folder)
    assert contents("nbd+unix:///d0?socket=nbd", seat.folder) == expected((MIB, 7))
    assert seat.offered("nbd_server_remove ") == ["d0", "ro", "-f"]
    remove_export(seat, "d0")
    seat.quietly("nbd_server_add -w d0 disk")
    write("nbd+unix:///disk?socket=nbd", 2 * MIB, 9, seat.folder)
    assert seat.says("info blockstats").startswith("d0: wr_highest_offset=")
    assert seat.says("block_resize d0 8M").startswith("Error: Permission conflict")
    seat.quietly("nbd_server_remove -f disk", "nbd_server_stop", "drive_del d0")
    assert contents("d0.qcow2", seat.folder) == expected((MIB, 7), (2 * MIB, 9))


def test_nodes_and_objects_are_made_by_the_daemons_own_schema(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("object_add throttle-group,id=slow,x-bps-total=1M,limits.iops-total=100")
    assert seat.says("qom-get /objects/slow x-bps-total") == "1048576"
    assert "slow (child<throttle-group>)" in seat.says("qom-list /objects")
    assert seat.says("qom-list") == "/"
    seat.quietly("drive_add -n 0 driver=throttle,node-name=t0,throttle-group=slow,file=d0")
    assert seat.says("info block").startswith("t0: ")
    seat.quietly('qom-set -j /objects/slow limits {"iops-total":200}')
    assert '"iops-total": 200' in seat.says("qom-get /objects/slow limits")
    seat.quietly("nbd_server_start unix:nbd", "nbd_server_add -w t0")
    write("nbd+unix:///t0?socket=nbd", 2 * MIB, 9, seat.folder)
    seat.quietly("nbd_server_stop", "drive_del t0", "object_del slow", "drive_del d0")
    assert contents("d0.qcow2", seat.folder) == expected((MIB, 7), (2 * MIB, 9))
    assert "throttle-group" in seat.says("object_add help")
    assert "x-iops-total=<int>" in seat.says("object_add throttle-group,help")
    assert seat.says("object_add nosuch,id=x") == "Error: Parameter 'qom-type' does not accept value 'nosuch'"
    assert seat.says("drive_add -n 0 driver=qcow2,node-name=x") == "Parameter 'file' is missing"
    said = seat.says("drive_add -n 0 driver=raw,node-name=x,file=d0,size=soon")
    assert said.startswith("Parameter 'size' expects a non-negative number below 2^64\n")


def test_character_devices(seat: Seat) -> None:
    seat.quietly("chardev-add ringbuf,id=r0,size=64", "ringbuf_write r0 hello")
    assert seat.says("ringbuf_read r0 10") == "hello"
    assert "r0: filename=ringbuf" in seat.says("info chardev")
    seat.quietly("chardev-change r0 null", "chardev-send-break r0", "chardev-remove r0")
    assert "r0" not in seat.says("info chardev")


def test_what_needs_a_machine_is_refused_with_a_reason(seat: Seat) -> None:
    for line in (
        "info status",
        "stop",
        "cont",
        "migrate tcp:localhost:1",
        "migrate_set_parameter downtime-limit 1",
        "info migrate",
        "savevm x",
        "info cpus",
        "info roms",
        "system_reset",
    ):
        assert "a storage daemon has no machine" in seat.says(line), line
    assert "has no devices: drive_add and drive_del" in seat.says("eject d0")
    assert "has no devices: drive_add and drive_del" in seat.says("change d0 other.img")
    assert "object_add throttle-group" in seat.says("block_set_io_throttle d0 1 0 0 0 0 0")


def test_help_lists_what_runs_and_nothing_else(seat: Seat) -> None:
    listed = [line.split()[0] for line in seat.says("help").split("\n") if " -- " in line]
    assert {"block_resize", "commit", "nbd_server_add", "quit|q"} <= set(listed)
    assert not {"migrate", "stop|s", "eject", "savevm", "log"} & set(listed)
    assert "help moving" not in seat.says("help", interactive=True)
    assert "moving" not in seat.says("help", interactive=True)
    for line in ("info block-jobs", "info version", "info snapshots", "info nbd", "info history"):
        assert "no QMP command" not in seat.says(line)
    assert seat.offered("block_resize ") == []
    assert seat.says(D0) == "OK"
    assert seat.offered("block_resize ") == ["d0"]
    assert seat.offered("nbd_server_add ") == ["d0", "-w"]
    assert seat.offered("drive_del ") == ["d0"]


def test_quit_ends_the_daemon(seat: Seat) -> None:
    seat.quietly("quit")
    assert seat.daemon.process.wait(PATIENCE) == 0

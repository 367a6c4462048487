"""qcow2 disks move between two processes, while a guest writes to them."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.images import MIB, drive, noise
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import Recipe, check, content, run
from tests.support.waiting import eventually

SIZE = 16 * MIB


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


def overlay(folder: Path, name: str, cluster_size: int = 65536) -> tuple[Path, bytes]:
    """An image over a raw one that covers half of it, in a folder of its own."""
    (folder / name).mkdir()
    return Recipe(cluster_size, SIZE, backing="raw", backing_size=SIZE // 2, content="zeros").make(
        folder / name
    )


def empty(folder: Path, name: str, image_format: str) -> Path:
    path = folder / name
    run("create", "-q", "-f", image_format, path, str(SIZE))
    return path


@pytest.mark.parametrize(("ours", "theirs"), [("qcow2", "qcow2"), ("raw", "qcow2")])
def test_a_disk_arrives_whole_in_another_format_while_it_is_written(lab: Lab, ours: str, theirs: str) -> None:
    image, held = overlay(lab.folder, "s", 4096)
    if ours == "raw":
        raw = lab.folder / "s.img"
        raw.write_bytes(held)
        image = raw
    arrived = empty(lab.folder, "arrived", theirs)
    source, target, uri = lab.pair(drive(image, format=ours), drive(arrived, format=theirs), bandwidth="40M")
    source.export("d0")
    target.export("d0")
    model = bytearray(held)
    stop = threading.Event()
    with source.guest() as guest:

        def write() -> None:
            chance = random.Random(1)
            while not stop.is_set():
                offset = chance.randrange(SIZE - 8192)
                data = chance.randbytes(8192)
                try:
                    guest.write(offset, data)
                except OSError:
                    return
                model[offset : offset + len(data)] = data
                stop.wait(0.002)

        thread = threading.Thread(target=write)
        thread.start()
        try:
            migrated(source, target, f"migrate -d blk {uri}")
        finally:
            stop.set()
            thread.join()
    with target.guest() as guest:
        assert guest.read(0, SIZE) == model
        guest.write(SIZE - 4096, b"z" * 4096)
        model[-4096:] = b"z" * 4096
    target.close()
    source.close()
    if theirs == "raw":
        assert arrived.read_bytes() == model
    else:
        check(arrived)
        assert content(arrived) == model


def test_what_was_written_last_is_in_the_source_image_when_it_has_let_go(lab: Lab) -> None:
    """Nothing was flushed: what is in memory of the tables goes to the file with the image."""
    image, held = overlay(lab.folder, "s")
    arrived = empty(lab.folder, "arrived", "qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(arrived, format="qcow2"))
    source.export("d0")
    with source.guest() as guest:
        guest.write(10 * MIB, noise(MIB))
    migrated(source, target, f"migrate -d blk {uri}")
    check(image)
    assert content(image) == held[: 10 * MIB] + noise(MIB) + held[11 * MIB :]


def test_a_shared_disk_is_read_anew_when_the_source_has_let_go(lab: Lab) -> None:
    image, held = overlay(lab.folder, "s")
    options = drive(image, format="qcow2")
    source, target, uri = lab.pair(options, options)
    source.export("d0")
    target.export("d0")
    with source.guest() as guest:
        guest.write(3 * MIB + 512, noise(5 * MIB))
    migrated(source, target, f"migrate -d {uri}")
    model = held[: 3 * MIB + 512] + noise(5 * MIB) + held[8 * MIB + 512 :]
    with target.guest() as guest:
        assert guest.read(0, SIZE) == model
        guest.write(0, b"after" + bytes(507))
    target.close()
    check(image)
    assert content(image) == b"after" + bytes(507) + model[512:]


def test_a_source_whose_migration_fails_writes_on(lab: Lab) -> None:
    image, held = overlay(lab.folder, "s")
    source, target, uri = lab.pair(
        drive(image, format="qcow2"),
        drive(empty(lab.folder, "arrived", "qcow2"), format="qcow2"),
        bandwidth="1M",
    )
    source.export("d0")
    with source.guest() as guest:
        source.quietly(f"migrate -d blk {uri}")
        source.wait_migration("active")
        guest.write(0, b"a" * MIB)
        target.kill()
        eventually(lambda: source.migration().startswith("failed"), "the migration has failed")
        guest.write(2 * MIB, b"b" * MIB)
        assert guest.read(0, 3 * MIB) == b"a" * MIB + held[MIB : 2 * MIB] + b"b" * MIB
        guest.flush()
        killed_with = content_of(source, guest, image)
    assert killed_with[: 3 * MIB] == b"a" * MIB + held[MIB : 2 * MIB] + b"b" * MIB


def content_of(qmon: Qmon, guest: Guest, image: Path) -> bytes:
    """What is in the image after its process was killed; all was flushed."""
    qmon.kill()
    check(image, leaks=True)
    return content(image)


@pytest.fixture
def slow_flush(lab: Lab) -> Iterator[tuple[Qmon, Qmon, str, str]]:
    """A source whose flushes come to no end, a destination, the line that migrates, and the fault's id."""
    image, _ = overlay(lab.folder, "s")
    arrived = empty(lab.folder, "arrived", "qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(arrived, format="qcow2"))
    source.export("d0")
    yield source, target, f"migrate -d blk {uri}", source.fault("flush", delay=600_000)
    check(image)


def reach_the_flush(source: Qmon, line: str) -> None:
    source.quietly(line)
    eventually(lambda: source.qmp("x-qmon-query-faults")[0]["hits"], "the source flushes")


def test_guests_do_not_wait_for_what_letting_go_of_a_disk_has_to_flush(
    lab: Lab, slow_flush: tuple[Qmon, Qmon, str, str]
) -> None:
    source, target, line, hold = slow_flush
    with source.guest() as guest:
        reach_the_flush(source, line)
        guest.write(12 * MIB, noise(MIB))
        assert source.migration() == "active"
        source.qmp("x-qmon-fault-del", id=hold)
        source.wait_migration("completed")
    target.wait_migration("completed")
    target.close()
    run("compare", lab.folder / "s" / "disk.qcow2", lab.folder / "arrived")


def test_a_migration_is_cancelled_while_the_source_flushes(
    slow_flush: tuple[Qmon, Qmon, str, str],
) -> None:
    source, target, line, hold = slow_flush
    with source.guest() as guest:
        reach_the_flush(source, line)
        source.quietly("migrate_cancel")
        guest.write(0, noise(MIB))
        source.qmp("x-qmon-fault-del", id=hold)
        source.wait_migration("cancelled")
        target.wait_migration("failed")
        guest.write(MIB, noise(MIB))
        migrated(source, target, line)


@pytest.mark.parametrize("after", range(3), ids=["running", "standing still", "letting go"])
def test_a_source_that_can_not_be_flushed_runs_on(lab: Lab, after: int) -> None:
    image, held = overlay(lab.folder, "s")
    arrived = empty(lab.folder, "arrived", "qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(arrived, format="qcow2"))
    source.export("d0")
    source.fault("flush", error="EIO", after=after, count=1)
    source.quietly(f"migrate -d blk {uri}")
    assert "drive 'd0': flush failed: Input/output error" in source.wait_migration("failed")
    with source.guest() as guest:
        assert guest.read(0, SIZE) == held
        guest.write(0, noise(MIB))
    eventually(lambda: "incoming migration" in target.log(), "the destination has heard of it")
    migrated(source, target, f"migrate -d blk {uri}")
    target.close()
    run("compare", image, arrived)


def test_a_destination_that_has_everything_does_not_call_it_partial(lab: Lab) -> None:
    """Its source died between its own last flush and GO."""
    image, _ = overlay(lab.folder, "s")
    arrived = empty(lab.folder, "arrived", "qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(arrived, format="qcow2"))
    source.fault("flush", delay=600_000, after=1)
    source.quietly(f"migrate -d blk {uri}")
    target.wait_migration("device")
    source.kill()
    eventually(lambda: "(" in target.migration(), "the destination has seen it")
    said = target.migration()
    # How a kill ends a connection depends on what was still unread.
    assert "the source closed the connection" in said or "the connection to the source was lost" in said
    assert said.endswith("; all data is here, waiting for the source to release the disks)")
    target.quietly("migrate_resolve keep")
    target.wait_status("running")
    target.close()
    run("compare", image, arrived)

"""Without ``blk`` only a disk that both sides have changes hands; another one is refused."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest

from qmon.migration.wire.offer import DriveOffer, Mode, Offer
from qmon.migration.wire.stream import PREAMBLE, section_end, section_footer, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support.hosts import NoHostsError, loop_device
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.peers import lack, require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import run
from tests.support.visitors import drained, visitor
from tests.support.waiting import eventually

SIZE = 4 * MIB
LARGE = 256 * MIB
"""Of which only some places are compared."""


def refused(
    source: Qmon, target: Qmon, line: str, offset: int, name: str = "d0", right: str = "migrate blk copies it"
) -> None:
    """Both sides say where the disks differ and what would be right; the source runs on."""
    if line:
        source.quietly(line)
    status = source.wait_migration("failed")
    differ = f"it differs in the 512 bytes at {offset}; {right}"
    why = f"drive '{name}' is not the same disk on both sides: {differ}"
    assert status == f"failed ({why})"
    target.wait_log(why)
    assert "partial" not in target.log()
    assert (source.status(), target.status()) == ("running", "paused (inmigrate)")


def test_another_disk_of_the_same_size_is_refused_and_may_be_copied_then(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    refused(source, target, f"migrate -d {uri}", 0)
    assert not any((lab.folder / "target.img").read_bytes())
    with source.guest() as guest:
        guest.write(512, noise(512, 5))
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize("size", [SIZE, LARGE], ids=["small", "large"])
@pytest.mark.parametrize("call", ["write", "discard"])
def test_one_sector_that_a_guest_changed_a_moment_ago_is_found(lab: Lab, size: int, call: str) -> None:
    image = blank(lab.folder / "source.img", size)
    with image.open("r+b") as file:
        for offset in range(0, size, 64 << 10):  # no place is more likely to be looked at than others
            file.seek(offset)
            file.write(noise(4096))
    other = Path(shutil.copy(image, lab.folder / "target.img"))
    source, target, uri = lab.pair(drive(image), drive(other))
    source.export("d0")
    place = size // 2 + 7 * 512
    if call == "write":
        with source.guest() as guest:
            guest.write(place, noise(512, 3))
    else:
        source.command(f'qemu-io d0 "discard {place} 512"')
    refused(source, target, f"migrate -d {uri}", place)
    with source.guest() as guest:
        guest.write(place, noise(4096)[7 * 512 :])  # alike once more
    migrated(source, target, f"migrate -d {uri}")


def test_a_sector_written_while_the_disks_are_compared_is_found_when_guests_stand_still(lab: Lab) -> None:
    image, other = filled(lab.folder / "a", SIZE), filled(lab.folder / "b", SIZE)
    source, target, uri = lab.pair(drive(image), drive(other))
    source.export("d0")
    slow = source.fault("flush", delay=600_000, count=1)
    source.quietly(f"migrate -d {uri}")
    eventually(lambda: source.qmp("x-qmon-query-faults")[0]["hits"], "the comparison has begun")
    with source.guest() as guest:
        guest.write(MIB, noise(512, 3))
    source.qmp("x-qmon-fault-del", id=slow)
    refused(source, target, "", MIB)
    assert "downtime" in source.figures(), "it was found while guests wrote"
    with source.guest() as guest:
        guest.write(0, noise(512, 4))
    assert image.read_bytes()[:512] == noise(512, 4)


def test_one_file_under_another_name_is_one_disk(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    (lab.folder / "link.img").hardlink_to(image)
    source, target, uri = lab.pair(drive(image), drive(lab.folder / "link.img"))
    migrated(source, target, f"migrate -d {uri}")


def test_another_file_that_holds_the_same_is_taken(lab: Lab) -> None:
    """As where two hosts name one disk: what is in it tells."""
    image, other = filled(lab.folder / "a", SIZE), filled(lab.folder / "b", SIZE)
    source, target, uri = lab.pair(drive(image), drive(other))
    migrated(source, target, f"migrate -d {uri}")


def test_a_read_only_drive_is_compared_too(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    cds = [filled(lab.folder / f"cd{number}", MIB) for number in range(2)]
    with cds[1].open("r+b") as file:
        file.seek(MIB - 512)
        file.write(bytes(512))
    source, target, uri = lab.pair(*([*drive(image), *drive(cd, "cd", readonly="on")] for cd in cds))
    refused(source, target, f"migrate -d {uri}", MIB - 512, "cd", "the destination needs the same one")


def test_a_qcow2_file_that_the_destination_takes_for_raw_is_refused(lab: Lab) -> None:
    require("qemu-img")
    image = lab.folder / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", image, str(SIZE))
    os.truncate(image, SIZE)
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(image, format="raw"))
    refused(source, target, f"migrate -d {uri}", 0)


def test_one_overlay_over_two_backing_images_is_two_disks(lab: Lab) -> None:
    require("qemu-img")
    overlays: list[Path] = []
    for side in "st":
        folder = lab.folder / side
        folder.mkdir()
        filled(folder / "base.img", SIZE, ord(side))
        if side == "s":
            run(
                "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", folder / "disk.qcow2", str(SIZE)
            )
        else:
            (folder / "disk.qcow2").hardlink_to(overlays[0])
        overlays.append(folder / "disk.qcow2")
    source, target, uri = lab.pair(*(drive(each, format="qcow2") for each in overlays))
    refused(source, target, f"migrate -d {uri}", 0)


@pytest.mark.parametrize("alike", [False, True], ids=["other", "equal"])
def test_an_image_that_is_replaced_while_the_source_stands_still(lab: Lab, alike: bool) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    link = lab.folder / "link.img"
    link.symlink_to(image)
    source, target, uri = lab.pair(drive(image), drive(link))
    source.export("d0")
    source.quietly("migrate_set_capability pause-before-switchover on", f"migrate -d {uri}")
    source.wait_migration("pre-switchover")
    other = filled(lab.folder / "other.img", SIZE, 1 if alike else 2)
    link.unlink()
    link.symlink_to(other)
    source.quietly("migrate_continue pre-switchover")
    if alike:
        source.wait_migration("completed")
        target.wait_status("running")
        return
    status = source.wait_migration("failed")
    assert re.search(r"differs in the 512 bytes at 0; migrate blk copies it", status)
    target.wait_log("migrate blk")
    assert (source.status(), target.status()) == ("running", "paused (inmigrate)")
    with source.guest() as guest:
        guest.write(0, noise(512, 4))
    assert image.read_bytes()[:512] == noise(512, 4)
    assert other.read_bytes() == noise(SIZE, 2)


def test_a_source_that_does_not_ask_gets_no_disk(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = lab.start("target", *drive(image), "-incoming", uri)
    writer = RecordWriter()
    writer.raw(PREAMBLE + section_start())
    writer.hello(Offer(uuid4(), Mode.SHARED, (DriveOffer("d0", SIZE, False),)).encode())
    writer.end()
    writer.raw(section_footer() + section_end())
    writer.finish(True)
    writer.end()
    writer.raw(section_footer())
    with visitor(uri, *(bytes(piece) for piece in writer.buffers)) as sock:
        assert b"the disks were not compared" in drained(sock)
    assert target.status() == "paused (inmigrate)"


@pytest.fixture
def lun(lab: Lab) -> Iterator[tuple[Path, Path]]:
    """Two hosts' views of one disk: neither sees what is cached for the other, nor its locks."""
    image = filled(lab.folder / "lun.img", SIZE)
    try:
        with loop_device(image) as here, loop_device(image) as there:
            yield here, there
    except NoHostsError:
        lack("loop devices (losetup, as root)")


def test_what_a_host_has_cached_of_a_shared_disk_is_neither_compared_nor_served(
    lab: Lab, lun: tuple[Path, Path]
) -> None:
    source, target, uri = lab.pair(*(drive(device) for device in lun))
    for side in (source, target):
        side.export("d0")
    with lun[1].open("rb") as held:  # another program keeps what it has read in this host's memory
        assert held.read() == noise(SIZE)
        with source.guest() as guest:
            guest.write(MIB, noise(4096, 2))
        migrated(source, target, f"migrate -d {uri}")
        with target.guest() as guest:
            assert guest.read(MIB, 4096) == noise(4096, 2)

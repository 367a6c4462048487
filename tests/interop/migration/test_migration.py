"""A disk moves between two processes: every kind of disk, drive and transport arrives as it was."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.ports import free_port
from tests.support.processes import Lab, migrated

SIZES = [0, 512, 1536, 4096 + 512, 64 * 1024 - 512, MIB + 512, 8 * MIB + MIB // 2, 3 * MIB - 512]


@pytest.mark.parametrize("mode", ["blk", "blk inc"])
def test_disks_of_any_size_arrive_whole(lab: Lab, mode: str) -> None:
    here, there = [], []
    for number, size in enumerate(SIZES):
        here += drive(filled(lab.folder / f"source{number}", size, number), f"d{number}")
        there += drive(blank(lab.folder / f"target{number}", size), f"d{number}")
    source, target, uri = lab.pair(here, there)
    migrated(source, target, f"migrate -d {mode} {uri}")
    for number, size in enumerate(SIZES):
        assert (lab.folder / f"target{number}").read_bytes() == noise(size, number), size
    assert (source.status(), target.status()) == ("paused (postmigrate)", "running")


def test_a_disk_whose_file_ends_within_a_sector_arrives(lab: Lab) -> None:
    image, empty = filled(lab.folder / "a", 10_000), blank(lab.folder / "b", 10_000)
    source, target, uri = lab.pair(drive(image), drive(empty))
    migrated(source, target, f"migrate -d blk {uri}")
    assert empty.read_bytes().rstrip(b"\0") == noise(10_000).rstrip(b"\0")


def test_several_drives_of_which_one_is_read_only(lab: Lab) -> None:
    names = ["d0", "system-disk.1_a", "ro", "Z9", "ide0-hd0"]
    options: dict[str, list[str]] = {"source": [], "target": []}
    for number, name in enumerate(names):
        size = (number + 1) * MIB + 512 * number
        for side in options:
            path = lab.folder / f"{side} {number},\N{LATIN SMALL LETTER E WITH ACUTE}.img"
            alike = side == "source" or name == "ro"
            (filled(path, size, number) if alike else blank(path, size))
            options[side] += drive(path, name, **({"readonly": "on"} if name == "ro" else {}))
    source, target, uri = lab.pair(options["source"], list(reversed_drives(options["target"])))
    migrated(source, target, f"migrate -d blk {uri}")
    for number in range(len(names)):
        ours, theirs = (
            next(lab.folder.glob(f"{side} {number},*.img")).read_bytes() for side in ("source", "target")
        )
        assert ours == theirs == noise((number + 1) * MIB + 512 * number, number)
    figures = source.command("info migrate")
    assert re.search(r"^disk 'system-disk\.1_a': transferred \d+, remaining 0, total", figures, re.MULTILINE)
    assert "disk 'ro'" not in figures


def reversed_drives(options: list[str]) -> list[str]:
    """The same drives, the last first: the order of a command line means nothing."""
    pairs = list(zip(options[::2], options[1::2], strict=True))
    return [word for pair in reversed(pairs) for word in pair]


def test_a_sparse_disk_stays_sparse_and_is_fast(lab: Lab) -> None:
    size = 1 << 40
    image = blank(lab.folder / "a", size)
    empty = blank(lab.folder / "b", size)
    with image.open("r+b") as file:
        for offset in (0, size // 2 + 4096, size - MIB):
            file.seek(offset)
            file.write(noise(MIB))
    source, target, uri = lab.pair(drive(image), drive(empty))
    migrated(source, target, f"migrate -d blk {uri}")  # in a minute, not in hours
    assert empty.stat().st_blocks * 512 < 4 * MIB
    assert source.kbytes("transferred disk") < 4 << 10
    with empty.open("rb") as file:
        for offset in (0, size // 2 + 4096, size - MIB):
            file.seek(offset)
            assert file.read(MIB) == noise(MIB)


def test_what_is_zero_at_the_source_is_zero_at_a_destination_full_of_something_else(lab: Lab) -> None:
    size = 8 * MIB + 512
    image = blank(lab.folder / "a", size)
    with image.open("r+b") as file:
        file.seek(MIB + 512)
        file.write(noise(512))
        file.seek(3 * MIB)
        file.write(bytes(MIB))  # zeros that are written, not a hole
    full = filled(lab.folder / "b", size, seed=2)
    source, target, uri = lab.pair(drive(image), drive(full))
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(image, full)
    assert full.stat().st_blocks * 512 < MIB


@pytest.mark.parametrize("host", ["localhost", ""])
def test_tcp_reaches_the_destination_by_any_name_of_this_host(lab: Lab, host: str) -> None:
    port = free_port()
    image, empty = filled(lab.folder / "a", MIB), blank(lab.folder / "b", MIB)
    target = lab.start("target", *drive(empty), "-incoming", f"tcp:{host}:{port}")
    source = lab.start("source", *drive(image))
    migrated(source, target, f"migrate -d blk tcp:{host}:{port}")
    assert same(image, empty)


def test_the_destination_s_unix_socket_is_gone_when_it_has_quit(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(MIB)
    migrated(source, target, f"migrate -d blk {uri}")
    target.close()
    assert not os.path.exists(uri.removeprefix("unix:"))


def test_a_machine_can_move_on_from_where_it_arrived(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(2 * MIB)
    third_image = blank(lab.folder / "third.img", 2 * MIB)
    onward = f"unix:{lab.folder / 'onward.sock'}"
    third = lab.start("third", *drive(third_image), "-incoming", onward)
    migrated(source, target, f"migrate -d blk {uri}")
    with target.guest() as guest:
        guest.write(512, noise(4096, 7))
    migrated(target, third, f"migrate -d blk {onward}")
    assert same(lab.folder / "target.img", third_image)
    assert third_image.read_bytes()[512:4608] == noise(4096, 7)


def test_a_shared_image_is_handed_over_without_being_sent(lab: Lab) -> None:
    image = filled(lab.folder / "shared.img", 4 * MIB)
    source, target, uri = lab.pair(drive(image), drive(image))
    source.export("d0")
    target.export("d0")
    with source.guest() as guest:
        guest.write(MIB, noise(4096, 5))
    migrated(source, target, f"migrate -d {uri}")
    assert "transferred disk" not in source.figures()
    with target.guest() as guest:
        assert guest.read(MIB, 4096) == noise(4096, 5)
        guest.write(0, noise(512, 6))
    assert image.read_bytes()[:512] == noise(512, 6)
    assert (source.status(), target.status()) == ("paused (postmigrate)", "running")


def test_what_the_source_gave_away_it_does_not_take_back(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(MIB)
    migrated(source, target, f"migrate -d blk {uri}")
    assert "has moved the disks" in source.command("cont")
    refused = "Error: Can't migrate the vm that was paused due to previous migration"
    assert source.command(f"migrate -d blk {uri}") == refused
    with pytest.raises(OSError, match="has moved to another host"), source.guest() as guest:
        guest.write(0, bytes(512))
    assert Path(lab.folder / "source.img").read_bytes() == noise(MIB)

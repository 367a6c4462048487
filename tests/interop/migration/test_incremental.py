"""Incremental copies between two processes: the overlay arrives as it is, over what backed it at the source.

What arrived is judged by qemu-img: compare, map and check.
"""

from __future__ import annotations

import json
import random
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypedDict

import pytest

from tests.support.guests import Writer
from tests.support.images import KIB, MIB, drive, filled, noise, same
from tests.support.overlays import SIZE, Host, Range, allocated, same_overlays, scatter
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import check, content, run, run_io
from tests.support.waiting import eventually


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


class Shape(TypedDict, total=False):
    """What can be different between the two sides."""

    cluster: int
    compat: str
    depth: int
    base_format: str


def zeros(image: Path) -> list[Range]:
    """The zero clusters of an image, as (start, end)."""
    return [
        (each["start"], each["start"] + each["length"])
        for each in json.loads(run("map", "--output=json", image))
        if each["depth"] == 0 and each["zero"] and not each["data"]
    ]


@contextmanager
def writing(source: Qmon, seed: int, size: int = SIZE) -> Iterator[bytearray]:
    """A guest writes and trims all the while; yields nothing of use but the count of its requests."""
    stop = threading.Event()
    counted = bytearray()

    def work() -> None:
        chance = random.Random(seed)
        with source.guest() as guest:
            while not stop.is_set():
                offset = chance.randrange(size // 512) * 512
                length = min(chance.choice([512, 4096, 10_240, 65_536]), size - offset)
                try:
                    if chance.random() < 0.25:
                        start = offset // (64 * KIB) * 64 * KIB
                        guest.trim(start, min(chance.choice([64, 128]) * KIB, size - start))
                    else:
                        guest.write(offset, chance.randbytes(length))
                except OSError:
                    return  # the disk has moved
                counted.append(0)
                stop.wait(0.003)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield counted
    finally:
        stop.set()
        thread.join()


def move(lab: Lab, source: Host, target: Host, *, bandwidth: str = "100M") -> None:
    """An incremental copy to its good end; both processes end, so that the images are as they were left."""
    here, there, uri = lab.pair(source.options, target.options, bandwidth=bandwidth)
    migrated(here, there, f"migrate -d blk inc {uri}")
    here.close()
    there.close()


CASES: dict[str, tuple[Shape, Shape]] = {
    "clusters alike": ({}, {}),
    "larger clusters there": ({"cluster": 4 * KIB}, {"cluster": 2 * MIB}),
    "smaller clusters there": ({"cluster": 2 * MIB}, {"cluster": 4 * KIB}),
    "half a KiB here": ({"cluster": 512}, {"cluster": 64 * KIB}),
    "version 2": ({"compat": "0.10"}, {"compat": "0.10"}),
    "version 2 there": ({}, {"compat": "0.10"}),
    "chains": ({"depth": 2}, {"depth": 2, "base_format": "qcow2"}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_overlay_arrives_while_a_guest_writes_and_trims(lab: Lab, case: str) -> None:
    ours, theirs = CASES[case]
    source, target = Host(lab.folder / "s", **ours), Host(lab.folder / "t", **theirs)
    scatter(source.image, zeros=ours.get("compat") != "0.10")
    here, there, uri = lab.pair(source.options, target.options, bandwidth="32k")
    here.export("d0")
    here.quietly("migrate_set_capability x-qmon-forward off")  # this image is to stay as it was handed over
    with writing(here, 7) as counted:
        eventually(lambda: len(counted) > 5, "a guest writes")
        here.quietly(f"migrate -d blk inc {uri}")
        here.wait_migration("active")
        before = len(counted)
        eventually(lambda: len(counted) > before + 20, "a guest writes while blocks travel")
        here.quietly("migrate_set_parameter max-bandwidth 100M")
        here.wait_migration("completed")
    there.wait_status("running")
    here.close()
    there.close()
    for host in (source, target):
        check(host.image)
    run("compare", source.image, target.image)
    if theirs.get("cluster", 64 * KIB) <= ours.get("cluster", 64 * KIB):
        assert allocated(target.image) == allocated(source.image)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_only_what_is_allocated_travels(lab: Lab, compat: str) -> None:
    source, target = Host(lab.folder / "s", compat=compat), Host(lab.folder / "t", compat=compat)
    scatter(source.image, zeros=compat == "1.1")
    run_io(source.image, "write -c -P 21 4M 64k")
    here, there, uri = lab.pair(source.options, target.options)
    migrated(here, there, f"migrate -d -i {uri}")
    held = sum(end - start for start, end in allocated(source.image)) // KIB
    assert held <= here.kbytes("total disk") < held + 4  # chunks of 4 KiB
    assert here.kbytes("transferred disk") <= held + 4
    assert there.kbytes("total disk") < held + 4
    here.close()
    there.close()
    same_overlays(source, target)
    assert zeros(target.image) == zeros(source.image)


# What does not fit is refused before any block is sent, in one line on both sides.


def refused(lab: Lab, source: Qmon, target: Qmon, why: str, line: str = "migrate -d blk inc") -> None:
    """A migration that both sides refuse for one reason; the source runs on, the destination waits."""
    before = len(target.log().splitlines())
    source.quietly(f"{line} unix:{lab.folder / 'migrate.sock'}")
    status = source.wait_migration("failed")
    assert re.fullmatch(rf"failed \({why}\)", status), status
    eventually(lambda: len(target.log().splitlines()) > before, "the destination says why")
    (said,) = target.log().splitlines()[before:]
    assert re.fullmatch(rf"qmon: incoming migration.*(closed|failed): {why}", said), said
    assert source.status() == "running"
    assert target.status() == "paused (inmigrate)"


def as_it_was(image: Path, before: bytes) -> None:
    assert image.read_bytes() == before, "something was written"


NONE = (
    "drive 'd0' has a backing image at the {has} and none at the {lacks}: an incremental copy needs the same"
    " one on both sides"
)


def test_backing_images_of_other_sizes_or_none_are_refused(lab: Lab) -> None:
    source = Host(lab.folder / "s")
    scatter(source.image)
    other = Host(lab.folder / "t", base=noise(SIZE - 512, 5))
    alone = Host(lab.folder / "a")
    run("create", "-q", "-f", "qcow2", alone.image, str(SIZE))
    here = lab.start("source", *source.options)
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    for number, (target, why) in enumerate(
        (
            (
                other.options,
                rf"the backing image of drive 'd0' has {SIZE} bytes at the source and {SIZE - 512} at the"
                " destination: for an incremental copy the sizes must be equal",
            ),
            (
                alone.options,
                NONE.format(has="source", lacks="destination"),
            ),
            (
                drive(filled(lab.folder / "raw.img", SIZE)),
                NONE.format(has="source", lacks="destination"),
            ),
        )
    ):
        there = lab.start(f"target{number}", *target, "-incoming", uri)
        image = Path(target[1].split(",")[0].removeprefix("file="))
        before = image.read_bytes()
        refused(lab, here, there, why)
        as_it_was(image, before)
        there.close()
    there = lab.start("target", *Host(lab.folder / "good").options, "-incoming", uri)
    alone_here = lab.start("alone", *alone.options)
    refused(lab, alone_here, there, NONE.format(has="destination", lacks="source"))
    migrated(here, there, f"migrate -d blk inc {uri}")


DIFFERS = (
    r"the backing image of drive 'd0' differs between the source and the destination,"
    r" in the \d+ bytes at \d+"
)


def test_backing_images_that_differ_are_refused_unless_nobody_is_to_look(lab: Lab) -> None:
    source, target = Host(lab.folder / "s"), Host(lab.folder / "t", base=noise(SIZE, 6))
    scatter(source.image)
    here, there, uri = lab.pair(source.options, target.options)
    before = target.image.read_bytes()
    refused(lab, here, there, DIFFERS)
    as_it_was(target.image, before)
    here.quietly("migrate_set_parameter x-qmon-verify-backing full")
    refused(lab, here, there, DIFFERS)
    as_it_was(target.image, before)
    assert "x-qmon-verify-backing: full" in here.command("info migrate_parameters")
    here.quietly("migrate_set_parameter x-qmon-verify-backing off")
    migrated(here, there, f"migrate -d blk inc {uri}")
    here.close()
    there.close()
    assert allocated(target.image) == allocated(source.image)


def test_to_look_at_all_of_a_backing_image_finds_one_sector(lab: Lab) -> None:
    size = 32 * MIB
    base = bytearray(noise(4 * MIB) + bytes(20 * MIB) + noise(8 * MIB))
    source = Host(lab.folder / "s", size=size, base=bytes(base))
    base[12 * MIB + 512 : 12 * MIB + 1024] = noise(512)
    target = Host(lab.folder / "t", size=size, base=bytes(base), base_format="qcow2")
    scatter(source.image, size)
    here, there, uri = lab.pair(source.options, target.options)
    here.quietly("migrate_set_parameter x-qmon-verify-backing full")
    refused(lab, here, there, DIFFERS.replace(r"\d+ bytes at \d+", f"131072 bytes at {12 * MIB}"))
    there.close()
    run_io(target.folder / "base.qcow2", f"write -z {12 * MIB} 4096")
    again = lab.start("again", *target.options, "-incoming", uri)
    migrated(here, again, f"migrate -d blk inc {uri}")
    here.close()
    again.close()
    same_overlays(source, target)


HOLDS = (
    r"the overlay of drive 'd0' is not empty at the destination \(data at byte \d+\): an incremental copy"
    " needs an empty overlay"
)


def test_an_overlay_that_holds_something_is_refused(lab: Lab) -> None:
    source, target = Host(lab.folder / "s"), Host(lab.folder / "t")
    scatter(source.image)
    here, there, _ = lab.pair(source.options, target.options)
    for what in ("write -P 3 1M 512", "write -z 0 64k"):
        target.create_anew()
        run_io(target.image, what)
        before = target.image.read_bytes()
        refused(lab, here, there, HOLDS)
        as_it_was(target.image, before)


# After an attempt that failed.


def cut_off(lab: Lab, source: Qmon, target: Qmon) -> None:
    """Begin a copy, and cancel it when some of it has arrived."""
    source.quietly("migrate_set_parameter max-bandwidth 128k")
    source.quietly(f"migrate -d blk inc unix:{lab.folder / 'migrate.sock'}")
    eventually(lambda: source.migration() == "active" and source.kbytes("transferred disk") > 64, "blocks")
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    target.wait_migration("failed")
    assert "partial" in target.migration()
    target.wait_log("partial")
    source.quietly("migrate_set_parameter max-bandwidth 100M")


def test_a_retry_empties_what_the_attempt_before_has_written(lab: Lab) -> None:
    source, target = Host(lab.folder / "s"), Host(lab.folder / "t", cluster=4 * KIB)
    scatter(source.image)
    here, there, uri = lab.pair(source.options, target.options)
    here.export("d0")
    for _ in range(2):
        cut_off(lab, here, there)
        assert allocated(target.image)
        check(target.image)
    with here.guest() as guest:
        guest.trim(0, 64 * KIB)
        guest.write(6 * MIB, noise(512))
    migrated(here, there, f"migrate -d blk inc {uri}")
    here.close()
    there.close()
    same_overlays(source, target)


def test_what_somebody_else_wrote_after_a_failed_attempt_is_left_alone(lab: Lab) -> None:
    source, target = Host(lab.folder / "s"), Host(lab.folder / "t")
    scatter(source.image)
    here, there, _ = lab.pair(source.options, target.options)
    cut_off(lab, here, there)
    run_io(target.image, "write -P 3 7M 512")
    before = target.image.read_bytes()
    for _ in range(2):
        refused(lab, here, there, HOLDS)
    as_it_was(target.image, before)


def test_a_destination_that_was_started_again_does_not_guess_what_the_overlay_holds(lab: Lab) -> None:
    source, target = Host(lab.folder / "s"), Host(lab.folder / "t")
    scatter(source.image)
    here, there, uri = lab.pair(source.options, target.options)
    cut_off(lab, here, there)
    there.close()
    before = target.image.read_bytes()
    again = lab.start("again", *target.options, "-incoming", uri)
    refused(lab, here, again, HOLDS)
    as_it_was(target.image, before)
    again.close()
    target.create_anew()
    anew = lab.start("anew", *target.options, "-incoming", uri)
    migrated(here, anew, f"migrate -d blk inc {uri}")


# Other ways for disks that overlays are.


@pytest.mark.parametrize("line", ["migrate -d blk", "migrate -d blk inc"])
def test_an_image_without_a_backing_image_travels_whole(lab: Lab, line: str) -> None:
    """Also over what the destination held."""
    image, there = lab.folder / "s.qcow2", lab.folder / "t.qcow2"
    for path in (image, there):
        run("create", "-q", "-f", "qcow2", path, str(SIZE))
    scatter(image)
    run_io(there, "write -P 3 0 5M")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(there, format="qcow2"))
    migrated(source, target, f"{line} {uri}")
    source.close()
    target.close()
    check(there)
    run("compare", image, there)


@pytest.mark.parametrize("compat", ["0.10", "1.1"])
def test_a_full_copy_hides_another_backing_image(lab: Lab, compat: str) -> None:
    """Where the overlay there holds nothing, what backs it shows through, which is not zeros."""
    source = Host(lab.folder / "s")
    base = bytes(MIB) + noise(SIZE - 3 * MIB, 8)
    target = Host(lab.folder / "t", base=base, compat=compat)
    scatter(source.image)
    here, there, uri = lab.pair(source.options, target.options)
    migrated(here, there, f"migrate -d blk {uri}")
    here.close()
    there.close()
    check(target.image)
    run("compare", source.image, target.image)


def test_a_full_copy_of_an_overlay_fills_a_raw_image(lab: Lab) -> None:
    source = Host(lab.folder / "s", depth=2)
    scatter(source.image)
    there = filled(lab.folder / "t.img", SIZE, 9)
    here, target, uri = lab.pair(source.options, drive(there))
    migrated(here, target, f"migrate -d blk {uri}")
    here.close()
    run("convert", "-O", "raw", source.image, lab.folder / "expected.img")
    assert same(there, lab.folder / "expected.img")


def test_a_shared_overlay_is_read_anew_after_writes_up_to_the_handover(lab: Lab) -> None:
    """The destination has looked at the image before; what counts is what the source left in it."""
    host = Host(lab.folder / "s", cluster=4 * KIB)
    before_all = content(host.image)
    here, there, uri = lab.pair(host.options, host.options)
    here.export("d0")
    there.export("d0")
    here.quietly(f"migrate -d unix:{lab.folder / 'nobody.sock'}")
    here.wait_migration("failed")
    here.quietly("migrate_set_capability x-qmon-forward off")
    ready = threading.Event()
    ready.set()
    guest = Writer([here.nbd, there.nbd], "d0", before_all, ready, 3)
    guest.start()
    try:
        eventually(lambda: guest.acknowledged > 30, "a guest writes")
        migrated(here, there, f"migrate -d {uri}")
        before = guest.acknowledged
        eventually(lambda: guest.acknowledged > before + 10, "the guest writes on over there")
    finally:
        guest.stop()
        guest.join()
    here.close()
    there.close()
    check(host.image)
    assert guest.errors == []
    assert {write.side for write in guest.ledger.writes} == {0, 1}
    assert guest.ledger.wrong(content(host.image)) == []

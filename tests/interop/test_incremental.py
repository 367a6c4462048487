"""Incremental copies between two processes: the overlay arrives as it is, over a backing image of the same content.

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

import pytest

from tests.interop.peers import require
from tests.interop.processes import (
    KIB,
    MIB,
    Lab,
    Qmon,
    announced_port,
    blank,
    drive,
    eventually,
    migrated,
    noise,
)
from tests.interop.qcow2_images import check, run, run_io

SIZE = 8 * MIB + 1536
"""No multiple of any cluster size."""

Range = tuple[int, int]


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


class Host:
    """A folder with a backing image and an overlay on it, which holds nothing yet."""

    def __init__(
        self,
        folder: Path,
        *,
        cluster: int = 64 * KIB,
        compat: str = "1.1",
        size: int = SIZE,
        depth: int = 1,
        base: bytes | None = None,
        base_format: str = "raw",
    ) -> None:
        folder.mkdir()
        self.size = size
        self.image = folder / "disk.qcow2"
        raw = folder / "base.img"
        raw.write_bytes(noise(size, 5)[: size - 2 * MIB] + bytes(2 * MIB) if base is None else base)
        below, below_format = raw, "raw"
        if base_format == "qcow2":
            below, below_format = folder / "base.qcow2", "qcow2"
            run("convert", "-f", "raw", "-O", "qcow2", raw, below)
        self.base = below
        for number in range(1, depth):
            middle = folder / f"middle{number}.qcow2"
            run("create", "-q", "-f", "qcow2", "-b", below.name, "-F", below_format, middle)
            run_io(middle, f"write -P {number} {number * 192 * KIB} 128k", "write -z 1M 64k")
            below, below_format = middle, "qcow2"
        self.create(below, below_format, cluster, compat)
        self._make = below, below_format, cluster, compat

    def create(self, below: Path, below_format: str, cluster: int, compat: str) -> None:
        options = f"cluster_size={cluster},compat={compat}"
        run(
            *("create", "-q", "-f", "qcow2", "-o", options, "-b", below.name, "-F", below_format),
            *(self.image, self.size),
        )

    def create_anew(self) -> None:
        self.image.unlink()
        self.create(*self._make)

    @property
    def options(self) -> list[str]:
        return drive(self.image, format="qcow2")


def allocated(image: Path) -> list[Range]:
    """What qemu-img finds allocated in an image itself, as (start, end)."""
    found: list[Range] = []
    for each in json.loads(run("map", "--output=json", image)):
        if each["depth"] == 0 and each.get("present", True):
            start, end = each["start"], each["start"] + each["length"]
            if found and found[-1][1] == start:
                start = found.pop()[0]
            found.append((start, end))
    return found


def zeros(image: Path) -> list[Range]:
    """The zero clusters of an image, as (start, end)."""
    return [
        (each["start"], each["start"] + each["length"])
        for each in json.loads(run("map", "--output=json", image))
        if each["depth"] == 0 and each["zero"] and not each["data"]
    ]


def same_overlays(source: Host, target: Host) -> None:
    """Both hold the same, in the same places, and nothing is wrong with them."""
    for host in (source, target):
        check(host.image)
    run("compare", source.image, target.image)
    assert allocated(target.image) == allocated(source.image)


def scatter(image: Path, size: int = SIZE, *, zeros: bool = True) -> None:
    """Put data and zero clusters into an overlay, here and there, and at its end."""
    run_io(
        image,
        "write -P 17 0 4096",
        "write -P 18 300k 200k",
        "write -P 19 2M 1M",
        *(["write -z 1M 256k", "write -z 5M 128k"] if zeros else []),
        f"write -P 20 {size - 512} 512",
    )


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


CASES = {
    "clusters alike": ({}, {}),
    "larger clusters there": ({"cluster": 4 * KIB}, {"cluster": 2 * MIB}),
    "smaller clusters there": ({"cluster": 2 * MIB}, {"cluster": 4 * KIB}),
    "half a KiB here": ({"cluster": 512}, {"cluster": 64 * KIB}),
    "version 2": ({"compat": "0.10"}, {"compat": "0.10"}),
    "version 2 there": ({}, {"compat": "0.10"}),
    "two overlays": ({"depth": 2}, {"depth": 2}),
    "a qcow2 base there": ({}, {"base_format": "qcow2"}),
}


@pytest.mark.parametrize("case", CASES)
def test_an_overlay_arrives_while_a_guest_writes_and_trims(lab: Lab, case: str) -> None:
    ours, theirs = CASES[case]
    source, target = Host(lab.folder / "s", **ours), Host(lab.folder / "t", **theirs)  # type: ignore[arg-type]  # by name
    scatter(source.image, zeros=ours.get("compat") != "0.10")
    here, there, uri = lab.pair(source.options, target.options, bandwidth="4M")
    here.export("d0")
    with writing(here, 7) as counted:
        eventually(lambda: len(counted) > 5, "a guest writes")
        here.quietly(f"migrate -d blk inc {uri}")
        here.wait_migration("active", "completed")
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

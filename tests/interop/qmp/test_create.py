"""``blockdev-create``: the same jobs on a real QEMU and on qmon end alike; qemu-img reads what qmon makes."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB
from tests.support.job_sides import JobSides, Side
from tests.support.peers import require
from tests.support.waiting import PATIENCE

QCOW2: tuple[dict[str, Any], ...] = (
    {},
    {"size": 0},
    {"size": 10 << 30},
    {"size": 1 << 40, "cluster-size": 2 << 20},
    {"cluster-size": 512},
    {"cluster-size": 2 << 20},
    {"refcount-bits": 1},
    {"refcount-bits": 64},
    {"version": "v2"},
    {"version": "v3"},
    {"compression-type": "zstd"},
    {"lazy-refcounts": True},
    {"preallocation": "metadata"},
    {"preallocation": "metadata", "refcount-bits": 1, "size": 3 * MIB + 512},
    {"backing-file": "base.img"},
    {"backing-file": "base.img", "backing-fmt": "raw"},
    {"backing-file": "absent", "backing-fmt": "qcow2", "cluster-size": 512},
    {"backing-file": "base.img", "backing-fmt": "raw", "version": "v2"},
)
"""What is made; what QEMU makes looks the same to ``qemu-img info``."""

REFUSED: tuple[dict[str, Any], ...] = (
    {"size": 1000},
    {"size": -1},
    {"size": 1 << 62},
    {"size": (1 << 63) - 512},
    {"size": 1 << 50, "cluster-size": 512},
    {"cluster-size": 4 << 20},
    {"cluster-size": 1000},
    {"cluster-size": 0},
    {"cluster-size": 256},
    {"refcount-bits": 3},
    {"refcount-bits": 128},
    {"refcount-bits": 0},
    {"refcount-bits": -1},
    {"version": "v4"},
    {"version": "v2", "refcount-bits": 8},
    {"version": "v2", "lazy-refcounts": True},
    {"version": "v2", "compression-type": "zstd"},
    {"version": "v2", "extended-l2": True},
    {"extended-l2": True, "cluster-size": 8192},
    {"compat": "1.1"},
    {"preallocation": "x"},
    {"backing-fmt": "raw"},
    {"backing-file": "base.img", "backing-fmt": "nope"},
    {"backing-file": "base.img", "backing-fmt": "raw", "preallocation": "metadata"},
    {"backing-file": "b" * 1024, "backing-fmt": "raw"},
    {"data-file-raw": True},
    {"data-file": "f", "version": "v2"},
    {"file": "absent"},
    {"file": {"driver": "file"}},
    {"file": {"driver": "file", "filename": "absent/x"}},
    {"file": 5},
)

FILES: tuple[dict[str, Any], ...] = (
    {"size": MIB},
    {"size": 1000},
    {"size": 0},
    {"size": 65536, "preallocation": "off", "nocow": True, "extent-size-hint": 65536},
    {"size": 65536, "preallocation": "falloc"},
    {"size": 65536, "preallocation": "full"},
    {"size": 65536, "preallocation": "metadata"},
    {"size": -1},
    {"size": 1 << 62},
    {"size": (1 << 63) - 1},
    {"filename": "/", "size": 512},
    {"filename": "/absent/x", "size": 512},
    {"filename": "", "size": 512},
    {"filename": "file:named", "size": 512},
    {"size": 1, "x": 1},
    {},
)

LONG = 64 << 30
"""So many bytes are not written while somebody thinks."""


@pytest.fixture
def sides(tmp_path: Path) -> Iterator[JobSides]:
    require("qemu-system-x86_64", "qemu-img")
    with JobSides(tmp_path) as sides:
        for side in sides:
            (side.folder / "base.img").write_bytes(bytes(MIB))
        yield sides


def create(side: Side, driver: str, options: dict[str, Any]) -> dict[str, Any]:
    return side.job("blockdev-create", {"job-id": "j", "options": {"driver": driver, **options}})


def with_a_file(side: Side, content: bytes = b"") -> None:
    (side.folder / "f.img").write_bytes(content)
    side.client.run("blockdev-add", driver="file", node_name="f", filename="f.img")


def info(side: Side) -> dict[str, Any]:
    """What qemu-img says of the file; where it lies and what room it takes may differ."""
    asked = ["qemu-img", "info", "-U", "--output=json", "f.img"]
    shown: dict[str, Any] = json.loads(subprocess.check_output(asked, cwd=side.folder))
    return {name: value for name, value in shown.items() if name != "actual-size"}


def check(side: Side) -> None:
    subprocess.run(["qemu-img", "check", "-q", "-U", "-f", "qcow2", "f.img"], cwd=side.folder, check=True)


@pytest.mark.parametrize("before", [b"", b"\xff" * 300_000], ids=["empty", "full"])
def test_an_image_is_as_qemu_makes_it(sides: JobSides, before: bytes) -> None:
    for side in sides:
        with_a_file(side, before)
    for options in QCOW2:
        told = sides.same(create, "qcow2", {"file": "f", "size": MIB, **options})
        assert told["jobs"][0].get("error") is None, options
        assert sides.same(info)["format"] == "qcow2"
        if options.get("backing-file") != "absent":
            check(sides.ours)


def test_what_qemu_refuses_is_refused_in_its_words(sides: JobSides) -> None:
    for side in sides:
        with_a_file(side, b"kept" * 1000)
    for options in REFUSED:
        sides.same(create, "qcow2", {"file": "f", "size": MIB, **options})
    assert (sides.ours.folder / "f.img").read_bytes() == b"kept" * 1000


def test_a_file_is_as_qemu_makes_it(sides: JobSides) -> None:
    for options in FILES:
        sides.same(create, "file", {"filename": "new.img", **options})
        sides.same(lambda side: (side.folder / "new.img").read_bytes())
    sides.same(lambda side: (side.folder / "file:named").read_bytes())


def test_drivers_that_can_not_create_are_refused(sides: JobSides) -> None:
    for driver, options in (
        ("raw", {}),
        ("throttle", {}),
        ("host_device", {}),
        ("nope", {}),
        ("raw", {"file": "f"}),
    ):
        sides.same(create, driver, options)
    sides.same(lambda side: side.ask("blockdev-create", {"job-id": "j"}))
    sides.same(lambda side: side.ask("blockdev-create", {"job-id": "j", "options": {}}))


@pytest.mark.parametrize("storage", ["falloc", "full"])
def test_a_preallocated_image_has_its_storage(sides: JobSides, storage: str) -> None:
    side = sides.ours
    own = {"driver": "file", "filename": "f.img"}
    for file in ("f", own, {"driver": "raw", "file": own}):
        if file == "f":
            with_a_file(side, b"\xff" * 5000)
        create(side, "qcow2", {"file": file, "size": MIB, "preallocation": storage})
        check(side)
        assert (side.folder / "f.img").stat().st_blocks * 512 >= MIB
        subprocess.run(["qemu-io", "-U", "-r", "-c", "read -P 0 0 1M", "f.img"], cwd=side.folder, check=True)
        side.ask("blockdev-del", node_name="f")


def test_what_is_in_use_is_left_as_it_is(sides: JobSides) -> None:
    for side in sides:
        with_a_file(side, b"\xaa" * MIB)
        side.client.run("nbd-server-start", addr={"type": "unix", "data": {"path": "nbd.sock"}})
        side.client.run("block-export-add", type="nbd", id="x", node_name="f", writable=True)
    sides.same(lambda side: create(side, "qcow2", {"file": "f", "size": MIB}))
    own = {"driver": "file", "filename": "f.img"}
    for driver, options in (("file", {"filename": "f.img"}), ("qcow2", {"file": own})):
        for side in sides:
            (job,) = create(side, driver, {**options, "size": MIB})["jobs"]
            assert job["error"] in ('Failed to get "write" lock', 'Failed to get "resize" lock')
    for side in sides:
        assert (side.folder / "f.img").read_bytes() == b"\xaa" * MIB


def test_a_client_builds_a_disk_from_nothing(sides: JobSides) -> None:
    """As libvirt does: the file, a node on it, the image in it, a node on that."""

    def scene(side: Side) -> Any:
        said = [create(side, "file", {"filename": "f.img", "size": 0})]
        said += [side.ask("blockdev-add", driver="file", node_name="f", filename="f.img")]
        said += [
            create(
                side,
                "qcow2",
                {"file": "f", "size": 4 * MIB, "backing-file": "base.img", "backing-fmt": "raw"},
            )
        ]
        said += [side.ask("blockdev-add", driver="qcow2", node_name="top", file="f")]
        said += [create(side, "qcow2", {"file": "f", "size": MIB})]
        said += [side.ask("blockdev-del", node_name="top"), side.ask("blockdev-del", node_name="f")]
        return said

    sides.same(scene)
    sides.same(info)
    check(sides.ours)


def test_a_long_job_is_cancelled_while_it_writes(sides: JobSides) -> None:
    """Its command has been answered long before. The file has not got all its storage."""
    side, size = sides.ours, LONG
    options = {"driver": "file", "filename": "long.img", "size": size, "preallocation": "full"}
    assert side.ask("blockdev-create", {"job-id": "j", "options": options}) == {"return": {}}
    assert side.ask("job-cancel", id="j") == {"return": {}}
    (job,) = side.settled("j")
    assert (job["status"], job["error"]) == ("concluded", "Operation canceled")
    assert (side.folder / "long.img").stat().st_blocks * 512 < size
    side.ask("job-dismiss", id="j")


def test_the_newest_job_is_listed_first(sides: JobSides) -> None:
    def scene(side: Side) -> Any:
        for id in ("one", "two", "three"):
            options = {"driver": "file", "filename": f"{id}.img", "size": 512}
            side.ask("blockdev-create", {"job-id": id, "options": options})
            side.settled(id)
        return side.ask("query-jobs")

    jobs = sides.same(scene)["return"]
    assert [job["id"] for job in jobs] == ["three", "two", "one"]


def test_the_end_of_the_program_ends_its_jobs(sides: JobSides) -> None:
    side = sides.ours
    options = {"driver": "file", "filename": "long.img", "size": LONG, "preallocation": "full"}
    side.ask("blockdev-create", {"job-id": "j", "options": options})
    side.ask("quit")
    assert side.peer.process.wait(PATIENCE) == 0
    assert (side.folder / "long.img").stat().st_blocks * 512 < LONG

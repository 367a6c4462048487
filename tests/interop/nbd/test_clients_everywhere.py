"""libnbd's and QEMU's programs and fio read and write the exports of a qmon, in every way to reach it."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.support.bitmaps import add, map_of, nbd_map, served
from tests.support.images import KIB, MIB, blank, noise, same
from tests.support.nbd_house import Disk, House, run, sparse
from tests.support.peers import require
from tests.support.qcow2_images import run as run_img
from tests.support.qcow2_images import run_io

SIZE = 8 * MIB
QEMU_IMGS = {"7.2": ["qemu-img"], "10": ["/opt/qemu10/run", "qemu-img"]}


def content(seed: int = 1) -> bytes:
    """A disk with data, zeros and holes."""
    chance = random.Random(seed)
    pieces = [(chance.randrange(SIZE // 4096 - 64) * 4096, chance.randbytes(256 * KIB)) for _ in range(6)]
    return sparse(SIZE, pieces)


def joined(runs: list[tuple[int, int, int]]) -> list[tuple[int, int, int]]:
    """Neighbours of one kind as one."""
    found: list[tuple[int, int, int]] = []
    for offset, length, kind in runs:
        if found and found[-1][2] == kind:
            found[-1] = (found[-1][0], found[-1][1] + length, kind)
        else:
            found.append((offset, length, kind))
    return found


def test_the_maps_of_an_export_are_those_of_qemu_nbd(house: House, tmp_path: Path) -> None:
    require("nbdinfo", "qemu-nbd", "qemu-img", "qemu-io")
    base, top = tmp_path / "base", tmp_path / f"top-{house.way.value}"
    base.write_bytes(content())
    run_img("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", top)
    add(top, "marked")
    run_io(top, "write 64k 64k", "write -z 3M 128k", "write 7M 1", "discard 2M 64k")
    names = {
        "base:allocation": [],
        "qemu:allocation-depth": ["-A"],
        "qemu:dirty-bitmap:marked": ["-B", "marked"],
    }
    theirs = {name: joined(nbd_map(name, *served(top, *options))) for name, options in names.items()}
    disk = house.opened(
        f"map-{house.way.value}",
        top,
        format="qcow2",
        bitmaps=["marked"],
        allocation_depth=True,
    )
    for name in names:
        printed = house.run("nbdinfo", "--json", f"--map={name}", disk.uri)
        assert joined(map_of(printed)) == theirs[name], name


def test_nbdcopy_brings_a_disk_in_and_out(house: House, tmp_path: Path) -> None:
    require("nbdcopy")
    disk, source, back = house.disk(SIZE), tmp_path / "source", tmp_path / "back"
    source.write_bytes(content())
    house.run("nbdcopy", "--flush", source, disk.uri)
    house.run("nbdcopy", disk.uri, back)
    assert same(disk.image, source)
    assert same(back, source)
    assert disk.image.stat().st_blocks <= blank(tmp_path / "blank", SIZE).stat().st_blocks + SIZE // 512 // 3


def test_nbdcopy_copies_from_one_export_to_another(house: House) -> None:
    require("nbdcopy")
    here, there = house.disk(content(2)), house.disk(noise(SIZE))
    house.run(
        "nbdcopy", "--connections=3", "--request-size=65536", "--destination-is-zero", here.uri, there.uri
    )
    house.run("nbdcopy", "--synchronous", here.uri, there.uri)
    assert same(here.image, there.image)


@pytest.mark.parametrize("version", QEMU_IMGS)
def test_qemu_img_converts_compares_and_maps(house: House, tmp_path: Path, version: str) -> None:
    qemu_img = QEMU_IMGS[version]
    require(qemu_img[0])
    source, back = tmp_path / "source", tmp_path / "back.qcow2"
    source.write_bytes(content(3))
    disk, blank_disk = house.disk(SIZE), house.disk(SIZE)
    objects = house.qemu_objects()

    def options(of: Disk) -> str:
        return f"{house.server_options()},export={of.name}"

    def mapped(*image: str | Path) -> list[tuple[int, int, int]]:
        entries = json.loads(run(*qemu_img, "map", "--output=json", *objects, *image))
        return joined([(each["start"], each["length"], each["zero"]) for each in entries])

    convert = [*qemu_img, "convert", *objects]
    run(*convert, "-n", "-W", "-f", "raw", "--target-image-opts", source, options(disk))
    assert same(disk.image, source)
    run(*convert, "--image-opts", "-O", "qcow2", options(disk), back)
    compare = [*qemu_img, "compare", *objects, "--image-opts", options(disk)]
    assert "identical" in run(*compare, f"driver=qcow2,file.filename={back}")
    assert "Content mismatch" in run(*compare, options(blank_disk), status=1)
    assert mapped("--image-opts", options(disk)) == mapped("-f", "raw", disk.image)
    if not objects:  # a URI can't name credentials
        assert "8 MiB" in run(*qemu_img, "info", disk.uri)


NBDSH = """
import errno
assert h.get_size() == 8 << 20
assert h.can_multi_conn() and h.can_flush() and h.can_fua() and h.can_trim() and h.can_zero() and h.can_df()
h.pwrite(b"a" * 4096, 0)
h.pwrite(b"b" * 1000, 4000, nbd.CMD_FLAG_FUA)
h.zero(512, 512)
h.zero(512, 1024, nbd.CMD_FLAG_NO_HOLE)
h.trim(65536, 1 << 20)
h.flush()
assert h.pread(5000, 0) == b"a" * 512 + bytes(1024) + b"a" * 2464 + b"b" * 1000
chunks = []
h.pread_structured(8 << 20, 0, lambda data, offset, status, error: chunks.append((offset, len(data))))
assert sum(length for _, length in chunks) == 8 << 20, chunks
whole = []
h.pread_structured(3 << 20, 0, lambda data, offset, status, error: whole.append(len(data)), nbd.CMD_FLAG_DF)
assert whole == [3 << 20], whole
extents = []
h.block_status(8 << 20, 0, lambda name, offset, entries, error: extents.append((name, offset, entries)))
assert [(name, offset) for name, offset, _ in extents] == [("base:allocation", 0)], extents
assert sum(extents[0][2][::2]) == 8 << 20
one = []
h.block_status(8 << 20, 0, lambda name, offset, entries, error: one.append(entries), nbd.CMD_FLAG_REQ_ONE)
assert len(one[0]) == 2, one
h.set_strict_mode(0)
for request, wanted in (
    (lambda: h.pread(512, 8 << 20), errno.EINVAL),
    (lambda: h.pwrite(b"x" * 512, (8 << 20) - 256), errno.ENOSPC),
    (lambda: h.zero(512, 8 << 20), errno.ENOSPC),
    (lambda: h.trim(512, 8 << 20), errno.EINVAL),
    (lambda: h.pread(512, 0, 1 << 9), errno.EINVAL),
    (lambda: h.block_status(0, 0, lambda *_: 0), errno.EINVAL),
):
    try:
        request()
    except nbd.Error as error:
        assert error.errnum == wanted, (error.errnum, wanted)
    else:
        raise AssertionError(f"no error, not {wanted}")
h.pwrite(b"last", (8 << 20) - 4)
h.shutdown()
print("done")
"""


def test_an_nbdsh_script_sees_the_protocol_as_the_document_says(house: House) -> None:
    require("nbdsh")
    disk = house.disk(SIZE)
    assert house.run("nbdsh", "--base-allocation", "-u", disk.uri, "-c", NBDSH) == "done\n"
    held = disk.image.read_bytes()
    assert held[:5000] == b"a" * 512 + bytes(1024) + b"a" * 2464 + b"b" * 1000
    assert held[-4:] == b"last"


def test_nbdinfo_lists_what_there_is(house: House) -> None:
    require("nbdinfo")
    here, there = house.disk(SIZE, description="the first"), house.disk(2 * SIZE, writable=False)
    listed = json.loads(house.run("nbdinfo", "--json", "--list", "--no-content", house.uri("")))["exports"]
    exports = {each["export-name"]: each for each in listed}
    assert exports[here.name]["export-size"] == SIZE
    assert exports[here.name]["description"] == "the first"
    assert exports[there.name]["is_read_only"]
    assert "for export: absent" in house.run("nbdinfo", house.uri("absent"), status=1)


@pytest.mark.parametrize(("block", "depth", "jobs"), [("4k", 32, 2), ("1m", 4, 1)])
def test_fio_finds_what_it_wrote(house: House, block: str, depth: int, jobs: int) -> None:
    require("fio")
    disk = house.disk(SIZE)
    house.run(
        "fio",
        *("--name=verify", "--ioengine=nbd", f"--uri={disk.uri}", "--rw=randwrite", f"--bs={block}"),
        *(f"--iodepth={depth}", f"--numjobs={jobs}", f"--size={SIZE // jobs}"),
        *(f"--offset_increment={SIZE // jobs}", "--verify=crc32c", "--verify_fatal=1", "--fsync=64"),
        "--verify_state_save=0",
    )

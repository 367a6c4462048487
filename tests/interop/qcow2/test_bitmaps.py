"""Persistent bitmaps are listed as QEMU lists them, for as long as what they say is true."""

from __future__ import annotations

import json
import re
import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.image import look_at_image
from qmon.block.qcow2.header import Extension
from qmon.machine.images import image_info
from tests.support.bitmaps import dirty
from tests.support.images import drive
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import run, run_io
from tests.support.thoroughness import examples
from tests.support.two_monitors import TwoMonitors

CHANGES = {
    "write": 'qemu-io d0 "write 0 64k"',
    "zero": 'qemu-io d0 "write -z 0 64k"',
    "resize": "block_resize d0 2M",
    "snapshot": "snapshot_blkdev_internal d0 s",
}


IN_USE = [("in-use", ""), ("auto", ""), ("", "b0"), ("in-use", ""), ("", "b1")]


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-system-x86_64", "qemu-img", "qemu-io", "qemu-nbd", "nbdinfo")


def make(image: Path, *bitmaps: str) -> Path:
    """An image with bitmaps; each is its options and its name."""
    run("create", "-q", "-f", "qcow2", image, "1M")
    for each in bitmaps:
        *options, name = each.split(",")
        run("bitmap", "--add", *options, image, name)
    return image


def extension_of(data: bytes | bytearray) -> int:
    """Where the header's bitmaps extension has its fields."""
    position: int = struct.unpack_from(">I", data, 100)[0]
    while True:
        kind, length = struct.unpack_from(">II", data, position)
        assert kind != Extension.END
        if kind == Extension.BITMAPS:
            return position + 8
        position += 8 + -(-length // 8) * 8


def directory_of(data: bytes | bytearray) -> tuple[int, int]:
    """Its offset and length."""
    length, offset = struct.unpack_from(">QQ", data, extension_of(data) + 8)
    return offset, length


def test_bitmaps_are_listed_as_by_qemu(tmp_path: Path) -> None:
    with TwoMonitors(tmp_path) as both:
        for each in (both.theirs, both.ours):
            base = make(each.folder / "base", "b0", "-g,4096,two words", "--disable,für später")
            run("create", "-q", "-f", "qcow2", "-b", "base", "-F", "qcow2", each.folder / "over")
            used = bytearray(base.read_bytes())
            used[directory_of(used)[0] + 15] |= 1
            (each.folder / "used").write_bytes(used)
            make(each.folder / "untrusted", "b0")
            with (each.folder / "untrusted").open("r+b") as file:
                file.seek(88)
                file.write(bytes(8))
            for name in ("over", "used", "untrusted"):
                assert each.command(f"drive_add 0 if=none,id={name},file={name},readonly=on") == "OK"
        for name in ("over", "used", "untrusted"):
            theirs, ours = (
                [line for line in answer if not line.startswith("disk size: ")]
                for answer in both.lines(f"info block -v {name}")
            )
            assert ours == theirs
            assert ("    bitmaps:" in ours) is (name != "untrusted")
        assert "        [1]:" in both.ours.lines("info block -v over")


@pytest.mark.parametrize("change", CHANGES)
def test_bitmaps_are_kept_up_while_the_image_is_changed(change: str, lab: Lab) -> None:
    image = make(lab.folder / "d0.qcow2", "b0", "--disable,b1")
    qmon = lab.start("one", *drive(image, format="qcow2"))

    def flags() -> list[tuple[str, str]]:
        said = qmon.command("info block -v d0")
        return re.findall(r"\[\d+\]: (in-use|auto)|name: (b\d)", said)

    assert flags() == IN_USE
    qmon.command(CHANGES[change])
    assert flags() == IN_USE
    qmon.quietly("stop", "cont", f"snapshot_blkdev d0 {lab.folder / 'over.qcow2'}")
    assert flags() == [each for each in IN_USE if each[0] != "in-use"]
    qmon.quietly("drive_del d0")
    assert "No errors" in run("check", image)
    assert qmon.command(f"drive_add 0 if=none,id=d0,file={image},format=qcow2") == "OK"
    assert flags() == IN_USE


def test_a_backing_files_bitmaps_record_what_is_committed(lab: Lab) -> None:
    make(lab.folder / "base.qcow2", "b0", "--disable,b1")
    over = lab.folder / "d0.qcow2"
    run("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", over)
    run_io(over, "write -P 1 0 64k")
    qmon = lab.start("one", *drive(over, format="qcow2"))
    qmon.command('qemu-io d0 "write 128k 64k"')
    assert "name: b0" in qmon.command("info block -v d0")
    qmon.quietly("commit d0")
    assert "name: b0" in qmon.command("info block -v d0")
    qmon.quietly("drive_del d0")
    assert dirty(lab.folder / "base.qcow2", "b0") == [(0, 65536), (131072, 65536)]
    assert dirty(lab.folder / "base.qcow2", "b1") == []


def listed(info: dict[str, Any]) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = info["format-specific"]["data"].get("bitmaps", [])
    return found


@settings(max_examples=examples(60), deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1), st.integers(0, 255)), min_size=1, max_size=3))
def test_a_damaged_directory_keeps_nobody_from_reading_where_qemu_reads(
    damages: list[tuple[bool, float, int]],
) -> None:
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image = make(Path(name) / "image", "b0", "--disable,other")
        data = bytearray(image.read_bytes())
        (offset, length), extension = directory_of(data), extension_of(data)
        for in_directory, place, value in damages:
            if in_directory:
                data[offset + int(place * (length - 1))] = value
            else:
                data[extension + int(place * 23)] = value
        image.write_bytes(data)
        done = subprocess.run(["qemu-img", "info", "--output=json", image], capture_output=True, check=False)
        ours = image_info(look_at_image(str(image), "qcow2", read_only=True))
        if done.returncode == 0:
            assert listed(ours) == listed(json.loads(done.stdout))

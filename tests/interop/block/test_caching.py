"""``cache=``: what a write means, and what requests leave in this host's page cache, as in QEMU."""

from __future__ import annotations

import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, drive, filled, noise
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import check, content, run
from tests.support.stored import drop_pages, stored_folder
from tests.support.waiting import eventually

SHOWN = {
    "writeback": "writeback",
    "none": "writeback, direct",
    "off": "writeback, direct",
    "directsync": "writethrough, direct",
    "writethrough": "writethrough",
    "unsafe": "writeback, ignore flushes",
}


def pages(image: Path) -> int:
    """How many pages of a file are in the page cache."""
    require("fincore")
    words = ["fincore", "--noheadings", "--output", "PAGES", str(image)]
    return int(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def not_cached(image: Path) -> Path:
    """Store a file, and drop it from the page cache."""

    def is_dropped() -> bool:
        drop_pages(image)
        return pages(image) == 0

    eventually(is_dropped, "no page is in the cache")
    return image


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with stored_folder(tmp_path) as folder, Lab(folder) as lab:
        yield lab


@pytest.mark.parametrize("mode", SHOWN)
def test_the_mode_is_shown_as_by_qemu(lab: Lab, mode: str) -> None:
    qmon = lab.start("source", *drive(filled(lab.folder / "disk.img", MIB), cache=mode))
    assert f"    Cache mode:       {SHOWN[mode]}" in qmon.command("info block d0").splitlines()
    assert "ignored" not in qmon.log()


@pytest.mark.parametrize("mode", SHOWN)
def test_a_write_waits_for_storage_only_where_the_mode_says_so(lab: Lab, mode: str) -> None:
    qmon = lab.start("source", *drive(filled(lab.folder / "disk.img", MIB), cache=mode))
    qmon.export("d0")
    with qmon.guest() as guest:
        qmon.fault("flush", error="EIO")
        if SHOWN[mode].startswith("writethrough"):
            with pytest.raises(OSError, match="Input/output error"):
                guest.write(0, b"x" * 512)
        else:
            guest.write(0, b"x" * 512)


@pytest.mark.parametrize("mode", SHOWN)
def test_requests_of_any_place_leave_pages_only_in_a_cached_mode(lab: Lab, mode: str) -> None:
    image = not_cached(filled(lab.folder / "disk.img", 4 * MIB))
    qmon = lab.start("source", *drive(image, cache=mode))
    qmon.export("d0")
    expected = bytearray(noise(4 * MIB))
    chance = random.Random(mode)
    with qmon.guest() as guest:
        assert guest.read(0, 4 * MIB) == expected
        for number in range(40):
            offset, length = 512 * chance.randrange(4000), 512 * chance.randrange(1, 2000)
            expected[offset : offset + length] = data = noise(length, number)
            guest.write(offset, data)
        guest.trim(512, 1024)
        expected[512:1536] = bytes(1024)
        guest.flush()
        assert guest.read(0, 4 * MIB) == expected
    left = pages(image)
    qmon.close()
    assert image.read_bytes() == expected
    assert not left if "direct" in SHOWN[mode] else left


def test_a_qcow2_chain_is_written_past_the_cache(lab: Lab) -> None:
    base = filled(lab.folder / "base.img", MIB)
    image = lab.folder / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", image, 8 * MIB)
    not_cached(base)
    not_cached(image)
    qmon = lab.start("source", *drive(image, format="qcow2", cache="none"))
    qmon.export("d0")
    expected = bytearray(noise(MIB).ljust(8 * MIB, b"\0"))
    chance = random.Random(1)
    with qmon.guest() as guest:
        for number in range(60):
            offset, length = 512 * chance.randrange(14_000), 512 * chance.randrange(1, 1500)
            expected[offset : offset + length] = data = noise(length, number)
            guest.write(offset, data)
        assert guest.read(0, 8 * MIB) == expected
    qmon.close()
    assert pages(base) == 0
    assert pages(image) < 100, "no more than what the header's first look has read"
    assert content(image) == expected
    check(image)

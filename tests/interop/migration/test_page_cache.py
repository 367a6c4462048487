"""A migration leaves the page cache of both hosts as it found it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from qmon.block.page_cache import PAGE, cached_pages
from tests.support.images import MIB, blank, drive, filled
from tests.support.processes import Lab, migrated
from tests.support.qcow2_images import run

SIZE = 24 * MIB


def cached(path: Path) -> int:
    """How many pages of a file are in the page cache."""
    with path.open("r+b") as file:
        return sum(cached_pages(file.fileno(), 0, path.stat().st_size))


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_cold_disk_stays_cold(lab: Lab, form: str) -> None:
    raw = filled(lab.folder / "disk.raw", SIZE)
    image = lab.folder / "disk.img"
    run("convert", "-O", form, raw, image)
    target_image = blank(lab.folder / "target.img", SIZE)
    source, target, uri = lab.pair(drive(image, format=form), drive(target_image))
    with image.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = cached(image)
    migrated(source, target, f"migrate -d blk {uri}")
    few = SIZE // PAGE // 20
    assert cached(image) <= before + few, "no more than the header, tables, and what was read ahead"
    assert cached(target_image) <= few
    source.close()
    target.close()
    run("compare", "-f", form, "-F", "raw", image, target_image)


def test_a_warm_disk_stays_warm(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    source, target, uri = lab.pair(drive(image), drive(blank(lab.folder / "target.img", SIZE)))
    before = cached(image)
    assert before
    migrated(source, target, f"migrate -d blk {uri}")
    assert cached(image) == before

"""A migration leaves the page cache of both hosts as it found it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.block.page_cache import PAGE, cached_pages
from tests.support.images import MIB, blank, drive, filled
from tests.support.processes import Lab, migrated
from tests.support.qcow2_images import run
from tests.support.stored import drop_pages, stored_folder

SIZE = 24 * MIB


TRIALS = 5
"""The kernel may need memory, or use a page, at the wrong moment."""


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Path]:
    """A folder on a file system that has a page cache."""
    with stored_folder(tmp_path) as folder:
        yield folder


def cached(path: Path) -> int:
    """How many pages of a file are in the page cache."""
    with path.open("r+b") as file:
        return sum(cached_pages(file.fileno(), 0, path.stat().st_size))


@pytest.mark.parametrize("form", ["raw", "qcow2"])
def test_a_cold_disk_stays_cold(tmp_path: Path, images: Path, form: str) -> None:
    raw = filled(images / "disk.raw", SIZE)
    image, target_image = images / "disk.img", images / "target.img"
    run("convert", "-O", form, raw, image)

    def stays_cold(folder: Path) -> bool:
        folder.mkdir()
        blank(target_image, SIZE)
        with Lab(folder) as lab:
            source, target, uri = lab.pair(drive(image, format=form), drive(target_image))
            drop_pages(image)
            before = cached(image)
            migrated(source, target, f"migrate -d blk {uri}")
            few = SIZE // PAGE // 20  # no more than the header, tables, and what was read ahead
            is_cold = cached(image) <= before + few and cached(target_image) <= few
        run("compare", "-f", form, "-F", "raw", image, target_image)
        return is_cold

    assert any(stays_cold(tmp_path / str(number)) for number in range(TRIALS))


def test_a_warm_disk_stays_warm(tmp_path: Path, images: Path) -> None:
    image, target_image = images / "disk.img", images / "target.img"

    def stays_warm(folder: Path) -> bool:
        folder.mkdir()
        filled(image, SIZE)
        with Lab(folder) as lab:
            source, target, uri = lab.pair(drive(image), drive(blank(target_image, SIZE)))
            before = cached(image)
            migrated(source, target, f"migrate -d blk {uri}")
            return before > 0 and cached(image) == before

    assert any(stays_warm(tmp_path / str(number)) for number in range(TRIALS))

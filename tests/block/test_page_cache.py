"""A read that passes leaves in the page cache what was there, and nothing else."""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.block.file import FileNode
from qmon.block.page_cache import PAGE, cached_pages, is_in_memory
from tests.support.images import MIB, noise
from tests.support.stored import drop_pages, stored_folder

SIZE = 20 * MIB + 700


TRIALS = 5
"""The kernel may need memory, or use a page, at the wrong moment."""


@pytest.fixture
def file(tmp_path: Path) -> Iterator[Path]:
    """A file that is on disk and not in the page cache."""
    with stored_folder(tmp_path) as folder:
        path = folder / "file"
        path.write_bytes(noise(SIZE))
        drop_pages(path)
        yield path


def cached(path: Path) -> bytes:
    fd = os.open(path, os.O_RDWR)
    try:
        return bytes(cached_pages(fd, 0, SIZE))
    finally:
        os.close(fd)


def read(path: Path, ranges: list[tuple[int, int]], *, sparing: bool) -> bytes:
    node = FileNode(str(path), read_only=False, locks=None)
    if sparing:
        node.spare_page_cache()
    found = b""
    for offset, length in ranges:
        buffer = bytearray(length)
        node.read_into(offset, memoryview(buffer))
        found += buffer
    node.close()
    return found


def in_order(step: int) -> list[tuple[int, int]]:
    return [(offset, min(step, SIZE - offset)) for offset in range(0, SIZE, step)]


@pytest.mark.parametrize("step", [64 << 10, MIB, SIZE])
def test_a_pass_through_a_file_leaves_it_as_it_was(file: Path, step: int) -> None:
    chance = random.Random(step)

    def is_left() -> bool:
        drop_pages(file)
        read(file, [(chance.randrange(SIZE // PAGE) * PAGE, PAGE) for _ in range(20)], sparing=False)
        before = cached(file)
        assert read(file, in_order(step), sparing=True) == noise(SIZE)
        return 0 < sum(before) < len(before) and cached(file) == before

    assert any(is_left() for _ in range(TRIALS))


def test_what_is_all_cached_stays(file: Path) -> None:
    def stays() -> bool:
        read(file, in_order(MIB), sparing=False)
        are_all = all(cached(file))
        read(file, in_order(MIB), sparing=True)
        return are_all and all(cached(file))

    assert any(stays() for _ in range(TRIALS))


def test_a_file_in_memory_has_no_pages_to_drop(file: Path) -> None:
    with file.open("rb") as stored, tempfile.TemporaryFile(dir="/dev/shm") as held:
        assert not is_in_memory(stored.fileno())
        assert is_in_memory(held.fileno())

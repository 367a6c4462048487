"""A read that passes leaves in the page cache what was there, and nothing else."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path

import pytest

from qmon.block.file import FileNode
from qmon.block.page_cache import PAGE, cached_pages, is_in_memory
from tests.support.images import MIB, noise

SIZE = 20 * MIB + 700


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A file that is on disk and not in the page cache."""
    path = tmp_path / "file"
    with path.open("wb") as out:
        out.write(noise(SIZE))
        out.flush()
        os.fsync(out.fileno())
        os.posix_fadvise(out.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


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
    read(file, [(chance.randrange(SIZE // PAGE) * PAGE, PAGE) for _ in range(20)], sparing=False)
    before = cached(file)
    assert 0 < sum(before) < len(before)
    assert read(file, in_order(step), sparing=True) == noise(SIZE)
    assert cached(file) == before


def test_what_is_all_cached_stays(file: Path) -> None:
    read(file, in_order(MIB), sparing=False)
    assert all(cached(file))
    read(file, in_order(MIB), sparing=True)
    assert all(cached(file))


def test_a_file_in_memory_has_no_pages_to_drop(file: Path) -> None:
    with file.open("rb") as stored, tempfile.TemporaryFile(dir="/dev/shm") as held:
        assert not is_in_memory(stored.fileno())
        assert is_in_memory(held.fileno())

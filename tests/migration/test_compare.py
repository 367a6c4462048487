"""Two nodes count as one disk where they hold the same; a question that is none is not answered."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.image import FileIdentity, ImageNode, identify, open_image
from qmon.errors import QmonError
from qmon.migration import compare
from qmon.migration.compare import (
    MAX_LENGTH,
    MAX_RANGES,
    Question,
    Range,
    Seen,
    all_of,
    answer_question,
    checksums,
    in_sectors,
    open_as_seen,
    places,
    token,
)
from qmon.migration.wire.stream import StreamError
from tests.support.memory import MemoryDrive, MemoryNode

SIZE = 5 * MAX_LENGTH + 512
TOKEN = bytes(32)


class FileDrive(MemoryDrive):
    """A drive of a raw image that is not open."""

    def __init__(self, path: Path) -> None:
        super().__init__(bytes(path.stat().st_size))
        self.image = str(path)
        self.opened: ImageNode | None = None

    def open_to_compare(self) -> ImageNode:
        return open_image(self.image, "raw", read_only=True, lock=False, from_storage=True)

    def activate(self) -> None:
        self.opened = open_image(self.image, "raw", read_only=True, lock=False)

    def identify(self) -> tuple[FileIdentity, ...]:
        assert self.opened is not None
        return identify(self.opened)


def asked(content: bytes, ranges: list[Range]) -> bytes:
    """A question about a disk that holds ``content``, of another host."""
    node = MemoryNode(len(content))
    node.data[:] = content
    return Question(TOKEN, tuple(ranges), tuple(checksums(node, ranges, lambda: None))).encode()


def answered(drive: MemoryDrive, payload: bytes) -> tuple[Seen, list[int]]:
    return answer_question(drive, drive.size, payload, lambda: None)


@pytest.fixture
def disk(tmp_path: Path) -> FileDrive:
    (tmp_path / "disk").write_bytes(random.Random(1).randbytes(SIZE))
    return FileDrive(tmp_path / "disk")


def test_the_range_with_a_difference_is_told_down_to_the_sector(disk: FileDrive) -> None:
    content = bytearray(Path(disk.image).read_bytes())
    assert answered(disk, asked(bytes(content), all_of(SIZE)))[1] == []
    content[3 * MAX_LENGTH + 5 * 512] ^= 1
    seen, differing = answered(disk, asked(bytes(content), all_of(SIZE)))
    assert (seen.is_same, differing) == (False, [3])
    assert answered(disk, asked(bytes(content), in_sectors(all_of(SIZE)[3])))[1] == [5]
    content[-1] ^= 1
    assert answered(disk, asked(bytes(content), all_of(SIZE)))[1] == [3, 5]


def test_the_asker_s_own_file_is_not_read(disk: FileDrive) -> None:
    disk.activate()
    ranges = tuple(all_of(SIZE))
    payload = Question(token(disk.identify()), ranges, (bytes(16),) * len(ranges)).encode()
    assert answered(disk, payload) == (Seen(disk.identify(), is_same=True), [])


def test_files_of_no_kernel_that_can_be_told_are_never_one(
    disk: FileDrive, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    disk.activate()
    here = token(disk.identify())
    assert here == token(disk.identify()) != token([("raw", "file", 1, 2)])
    monkeypatch.setattr(compare, "BOOT_ID", tmp_path / "none")
    assert len({here, token(disk.identify()), token(disk.identify())}) == 3
    assert token([]) != token([])


def test_another_size_or_another_file_since_is_refused(disk: FileDrive) -> None:
    seen, _ = answered(disk, asked(b"", []))
    open_as_seen(disk, seen)
    os.rename(disk.image, f"{disk.image}.old")
    Path(disk.image).write_bytes(Path(f"{disk.image}.old").read_bytes())
    with pytest.raises(QmonError, match="drive 'd0': its image was replaced after it was compared"):
        open_as_seen(disk, seen)
    os.truncate(disk.image, SIZE + 512)
    with pytest.raises(QmonError, match=f"changed at the destination from {SIZE} to {SIZE + 512} bytes"):
        answered(disk, asked(b"", []))


@given(st.integers(0, SIZE // 512), st.integers(1, 1 << 20), st.integers(0, 3))
def test_a_question_arrives_as_it_was_sent(start: int, length: int, count: int) -> None:
    where = (min(start * 512, SIZE - 1), max(1, min(length, MAX_LENGTH, SIZE - start * 512)))
    question = Question(TOKEN, (where,) * count, (bytes(16),) * count)
    assert Question.decode(question.encode(), SIZE) == question


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        bytes(31),
        bytes(33),
        Question(TOKEN, ((0, 0),), (bytes(16),)).encode(),
        Question(TOKEN, ((0, MAX_LENGTH + 1),), (bytes(16),)).encode(),
        Question(TOKEN, ((SIZE - 511, 512),), (bytes(16),)).encode(),
        Question(TOKEN, (((1 << 64) - 1, 512),), (bytes(16),)).encode(),
        Question(TOKEN, ((0, 512),) * (MAX_RANGES + 1), (bytes(16),) * (MAX_RANGES + 1)).encode(),
        Question(TOKEN, ((0, 512),), (bytes(16),)).encode()[:-1],
    ],
)
def test_a_question_that_is_none_is_refused(payload: bytes) -> None:
    with pytest.raises(StreamError, match="not a valid migration stream"):
        Question.decode(payload, SIZE)


@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 100])
@pytest.mark.parametrize("count", [1, 2, 16, 256])
def test_places_lie_within_the_disk_its_first_and_last_among_them(blocks: int, count: int) -> None:
    size = blocks * MAX_LENGTH
    found = places(MemoryNode(size), count, random.Random(1))
    assert len(found) <= max(2, count)
    assert all(0 < length <= MAX_LENGTH and offset + length <= size for offset, length in found)
    assert not size or {0, size - MAX_LENGTH} <= {offset for offset, _ in found}

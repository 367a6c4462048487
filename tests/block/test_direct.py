"""What is read past the page cache is what the file holds, wherever a read begins and ends."""

from __future__ import annotations

import errno
import fcntl
import os
import random
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from qmon.block.direct import ALIGNMENT, DirectFileNode
from qmon.block.image import identify, open_image
from tests.support.images import noise


@pytest.mark.parametrize("size", [0, 1, 511, 512, 4096, 5000, (256 << 10) + 700, 1 << 20])
def test_any_range_reads_as_the_file_with_zeros_behind_it(tmp_path: Path, size: int) -> None:
    content = noise(size)
    (tmp_path / "file").write_bytes(content)
    node = DirectFileNode(str(tmp_path / "file"), read_only=True, locks=None)
    chance = random.Random(size)
    for _ in range(50):
        offset, length = chance.randrange(size + 9000), chance.randrange(600_000)
        found = bytearray(b"x" * length)
        node.read_into(offset, memoryview(found))
        assert found == content[offset : offset + length].ljust(length, b"\0")
    node.close()


def test_an_image_is_told_by_its_files_and_not_by_their_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).write_bytes(noise(4096))
    (tmp_path / "link").hardlink_to(tmp_path / "a")
    seen = {}
    for name in ("a", "b", "link"):
        image = open_image(
            str(tmp_path / name), "raw", read_only=True, lock=False, from_storage=name == "link"
        )
        seen[name] = identify(image)
        image.close()
    assert seen["a"] == seen["link"] != seen["b"]


@pytest.mark.parametrize("size", [0, 511, 4096, 5000, (1 << 20) + 700])
def test_any_range_is_written_and_nothing_beside_it(tmp_path: Path, size: int) -> None:
    expected = bytearray(noise(size))
    (tmp_path / "file").write_bytes(expected)
    node = DirectFileNode(str(tmp_path / "file"), read_only=False, locks=None)
    chance = random.Random(size)
    for number in range(60):
        offset = chance.choice((chance.randrange(size + 9000), 4096 * chance.randrange(300)))
        length = chance.choice((512, 4096, 8192, chance.randrange(1, 300_000)))
        if number % 4 == 3:
            offset = min(offset, len(expected))
            length = min(length, len(expected) - offset)
            node.zero(offset, length)
            data = bytes(length)
        else:
            data = noise(length, number)
            node.write(offset, data)
        expected.extend(bytes(max(0, offset + length - len(expected))))
        expected[offset : offset + length] = data
    found = bytearray(len(expected))
    node.read_into(0, memoryview(found))
    assert found == expected
    node.close()
    assert (tmp_path / "file").read_bytes() == expected, "it is no longer than what was written"


def test_writes_within_one_block_at_once_lose_nothing(tmp_path: Path) -> None:
    """Each of eight threads writes its own 512 bytes of each block."""
    blocks, parts = 64, 8
    (tmp_path / "file").write_bytes(bytes(blocks * ALIGNMENT))
    node = DirectFileNode(str(tmp_path / "file"), read_only=False, locks=None)

    def write(part: int) -> None:
        for block in range(blocks):
            node.write(block * ALIGNMENT + part * 512, bytes([part + 1]) * 512)

    with ThreadPoolExecutor(parts) as threads:
        list(threads.map(write, range(parts)))
    node.close()
    block = b"".join(bytes([part + 1]) * 512 for part in range(parts))
    assert (tmp_path / "file").read_bytes() == block * blocks


def test_a_file_system_without_direct_requests_is_refused_only_where_they_are_demanded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, command: int, flags: int = 0) -> int:
        if command == fcntl.F_SETFL and flags & os.O_DIRECT:
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        return control(fd, command, flags)

    control = fcntl.fcntl
    monkeypatch.setattr(fcntl, "fcntl", refuse)
    file = tmp_path / "file"
    file.write_bytes(noise(4096))
    with pytest.raises(OSError, match=r"has no O_DIRECT.*cache=writeback"):
        DirectFileNode(str(file), read_only=True, locks=None)
    node = DirectFileNode(str(file), read_only=True, locks=None, is_needed=False)
    found = bytearray(512)
    node.read_into(512, memoryview(found))
    node.close()
    assert found == noise(4096)[512:1024]

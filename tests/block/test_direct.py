"""What is read past the page cache is what the file holds, wherever a read begins and ends."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from qmon.block.direct import DirectFileNode
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
        image = open_image(str(tmp_path / name), "raw", read_only=True, lock=False, direct=name == "link")
        seen[name] = identify(image)
        image.close()
    assert seen["a"] == seen["link"] != seen["b"]

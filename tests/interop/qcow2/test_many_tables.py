"""An image with more tables than are looked at on opening: each is looked at when it is used."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from qmon.block.image import open_image
from qmon.block.qcow2.limits import Limits
from tests.support.qcow2_images import Recipe, check, read

SIZE = 1 << 20
SPAN = 64 * 512
"""Bytes of the disk that one table is for."""

L1_OFFSET = 40
"""In the header."""

RESERVED = 1 << 60


FEW_ARE_MANY = Limits(tables_looked_at=0)


def change_entry(image: Path, index: int, change: int) -> None:
    with image.open("r+b") as file:
        file.seek(L1_OFFSET)
        place = struct.unpack(">Q", file.read(8))[0] + index * 8
        file.seek(place)
        entry = struct.unpack(">Q", file.read(8))[0]
        file.seek(place)
        file.write(struct.pack(">Q", entry ^ change))


@pytest.mark.parametrize("change", [RESERVED, 256 << 40, 1 << 8])
def test_a_table_that_can_not_be_is_an_error_where_it_is_used(tmp_path: Path, change: int) -> None:
    image, held = Recipe(cluster_size=512, size=SIZE, content="data").make(tmp_path)
    change_entry(image, 3, change)
    node = open_image(str(image), "qcow2", read_only=True, limits=FEW_ARE_MANY)
    try:
        assert read(node, 0, 3 * SPAN) == held[: 3 * SPAN]
        with pytest.raises(OSError, match="an L1 entry is invalid"):
            read(node, 3 * SPAN, 512)
        assert read(node, 4 * SPAN, SIZE - 4 * SPAN) == held[4 * SPAN :]
    finally:
        node.close()


def test_it_is_written_as_any_other(tmp_path: Path) -> None:
    image, held = Recipe(cluster_size=512, size=SIZE, content="data").make(tmp_path)
    model = bytearray(held)
    node = open_image(str(image), "qcow2", limits=FEW_ARE_MANY)
    try:
        for offset in range(1024, SIZE, 9 * SPAN // 2):
            model[offset : offset + 3000] = bytes([offset % 251 + 1]) * 3000
            node.write(offset, model[offset : offset + 3000])
        assert read(node) == model
    finally:
        node.close()
    check(image)
    again = open_image(str(image), "qcow2", read_only=True, limits=FEW_ARE_MANY)
    assert read(again) == model
    again.close()

"""A new table of which little is written: the rest of it reads as zeros, and belongs to the file."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.qcow2_images import check, content, run, run_io
from tests.support.qcow2_model import opened

MIB = 1 << 20


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


def test_a_table_where_others_were_is_written_whole(tmp_path: Path) -> None:
    """What is free may hold anything: not every file system takes it back."""
    image = tmp_path / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, MIB)
    run_io(image, "write -P 7 0 64k")
    run("snapshot", "-c", "one", image)
    run_io(image, "write -P 8 0 64k")
    run("snapshot", "-d", "one", image)
    spoil_what_is_free(image)
    end = image.stat().st_size
    node = opened(image)
    node.write(MIB // 2, b"x" * 512)
    node.close()
    assert image.stat().st_size == end
    check(image)
    held = bytearray(b"\10" * 65536).ljust(MIB, b"\0")
    held[MIB // 2 : MIB // 2 + 512] = b"x" * 512
    assert content(image) == held


def spoil_what_is_free(image: Path) -> None:
    """Fill each cluster of 512 bytes whose count, of 16 bits, is 0."""
    data = bytearray(image.read_bytes())
    table = struct.unpack_from(">Q", data, 48)[0]
    free = 0
    for cluster in range(len(data) // 512):
        block = struct.unpack_from(">Q", data, table + cluster // 256 * 8)[0]
        if not struct.unpack_from(">H", data, block + cluster % 256 * 2)[0]:
            data[cluster * 512 : (cluster + 1) * 512] = b"\7" * 512
            free += 1
    assert free > 64
    image.write_bytes(data)


def test_a_table_at_the_end_is_all_within_the_file(tmp_path: Path) -> None:
    """Zeros over a backing file have an entry, and no cluster behind the table."""
    image = tmp_path / "disk.qcow2"
    (tmp_path / "base").write_bytes(b"\5" * MIB)
    run("create", "-q", "-f", "qcow2", "-b", "base", "-F", "raw", image)
    node = opened(image)
    node.zero(0, 65536)
    node.close()
    check(image)
    assert image.stat().st_size % 65536 == 0
    opened(image).close()
    assert content(image) == bytes(65536) + b"\5" * (MIB - 65536)

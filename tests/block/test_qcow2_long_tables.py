"""Tables that are longer than what one refcount block counts: small clusters make them so."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from qmon.block.qcow2.limits import Limits
from tests.support.peers import require
from tests.support.qcow2_images import check, content, run, run_io
from tests.support.qcow2_model import opened

MIB = 1 << 20


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


def test_a_long_refcount_table_moves(tmp_path: Path) -> None:
    """A block of 64 counts is for 32 KiB of the file, so that 160 MiB make a table of 80 clusters."""
    image = tmp_path / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=512,refcount_bits=64", image, MIB)
    os.truncate(image, 160 * MIB)
    node = opened(image, limits=Limits(checked_first=-1))  # what is new comes behind the file's end
    data = random.Random(1).randbytes(MIB)
    for offset in range(0, MIB, MIB // 4):
        node.write(offset, data[offset : offset + MIB // 4])
        node.flush()
    node.close()
    check(image)
    assert content(image) == data


def test_a_long_l1_table_is_copied_and_moved(tmp_path: Path) -> None:
    """A disk of 1 GiB has an L1 table of 512 clusters, twice what a block of 16 bit counts is for."""
    image, size = tmp_path / "disk.qcow2", 1 << 30
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", image, size)
    run_io(image, "write -P 1 0 64k", f"write -P 2 {size - 65536} 64k")
    node = opened(image)
    node.internal.take("one", 1, 2)
    node.resize(size + 512)
    node.write(size, b"\3" * 512)
    node.internal.take("two", 1, 2)
    node.internal.apply(node.snapshots[0])
    node.internal.delete(node.snapshots[:1])
    node.close()
    check(image)
    run_io(image, "read -P 1 0 64k", f"read -P 2 {size - 65536} 64k")
    run("snapshot", "-a", "two", image)
    run_io(image, "read -P 1 0 64k", f"read -P 2 {size - 65536} 64k", f"read -P 3 {size} 512")

"""Damage in images whose tables are too large to be looked at as a whole: it is met entry by entry."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from qmon.block.qcow2.limits import Limits
from qmon.block.qcow2.node import Qcow2Node
from tests.support.peers import require
from tests.support.qcow2_images import read, run, run_io
from tests.support.qcow2_model import opened

MIB, CLUSTER = 1 << 20, 65536
ADDRESS = 0x00FFFFFFFFFFFE00
CHANGES: dict[str, Callable[[Qcow2Node], None]] = {
    "write": lambda node: node.write(0, b"x" * CLUSTER),
    "zero": lambda node: node.zero(0, CLUSTER),
    "discard": lambda node: node.discard(0, CLUSTER),
    "leave": lambda node: node.leave_to_backing(0, CLUSTER),
}


def use(node: Qcow2Node, change: Callable[[Qcow2Node], None]) -> str | None:
    """Make a change, then write where there was nothing; return why that failed."""
    try:
        change(node)
        node.flush()
        for offset in (2 * MIB, 3 * MIB):
            node.write(offset, b"y" * CLUSTER)
            node.flush()
    except OSError as error:
        return str(error)
    return None


@pytest.mark.parametrize("named", ["L1", "L2", "counts", "outside", "packed over L1", "packed outside"])
@pytest.mark.parametrize("change", CHANGES)
def test_a_table_that_an_entry_names_is_not_given_away(tmp_path: Path, change: str, named: str) -> None:
    require("qemu-img", "qemu-io")
    file = tmp_path / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", file, 4 * MIB)
    run_io(file, "write -P 7 0 1M")
    image = bytearray(file.read_bytes())
    l1, counts = struct.unpack_from(">Q", image, 40)[0], struct.unpack_from(">Q", image, 48)[0]
    l2 = struct.unpack_from(">Q", image, l1)[0] & ADDRESS
    entries = {"L1": l1, "L2": l2, "outside": 1 << 40, "packed outside": 1 << 62 | 1 << 40}
    entries |= {"counts": struct.unpack_from(">Q", image, counts)[0], "packed over L1": 1 << 62 | l1}
    struct.pack_into(">Q", image, l2, entries[named])
    file.write_bytes(image)
    node = opened(file, limits=Limits(checked=-1, checked_first=-1))
    why = use(node, CHANGES[change])
    assert why is None or "damaged" in why
    node.close()
    node = opened(file, read_only=True)
    assert read(node, CLUSTER, MIB - CLUSTER) == b"\7" * (MIB - CLUSTER)
    assert node.header.is_corrupt
    node.close()
    assert file.stat().st_size < 8 * MIB


def test_counts_that_are_new_lie_behind_what_an_uncounted_part_holds(
    tmp_path: Path,
) -> None:
    """An entry names a cluster for whose counts there is no block; the first write beside it makes one."""
    require("qemu-img", "qemu-io")
    file, uncounted = tmp_path / "disk.qcow2", 300 * 64 * 512
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=512,refcount_bits=64", file, MIB)
    run_io(file, "write -P 7 0 512")
    image = bytearray(file.read_bytes().ljust(uncounted, b"\0"))
    image += b"\5" * 5 * 512
    l1 = struct.unpack_from(">Q", image, 40)[0]
    l2 = struct.unpack_from(">Q", image, l1)[0] & ADDRESS
    struct.pack_into(">Q", image, l2, 1 << 63 | uncounted)
    file.write_bytes(image)
    node = opened(file, limits=Limits(checked_first=-1))
    node.write(100 << 10, b"x" * 512)
    with pytest.raises(OSError, match="damaged"):
        node.flush()
    node.close()
    node = opened(file, read_only=True)
    assert read(node, 0, 512) == b"\5" * 512
    assert node.header.is_corrupt
    node.close()

"""Snapshots inside qcow2 images, taken, dropped and gone back to, against plain bytes."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.peers import require
from tests.support.qcow2_images import Recipe, check, recipes, run, run_io
from tests.support.qcow2_model import CALLS, Step, opened, put_through, steps
from tests.support.thoroughness import examples

CLUSTER = 65536
COPIED, ZERO = 1 << 63, 1
REFCOUNT_TABLE_OFFSET, L1_OFFSET = 48, 40
"""In the header."""


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


@settings(max_examples=examples(12))
@given(
    recipes().filter(lambda recipe: recipe.refcount_bits > 2),
    st.lists(steps(CALLS | {"take": 4, "apply": 3, "delete": 2}), min_size=4, max_size=25),
)
def test_a_disk_goes_back_to_what_it_held(recipe: Recipe, todo: list[Step]) -> None:
    put_through(recipe, todo)


def test_zeros_that_keep_the_first_cluster_are_counted_behind_zeros_that_keep_none(tmp_path: Path) -> None:
    """Cluster 1 is free once the refcount table has moved; its entry is one more than that of no cluster."""
    image = tmp_path / "disk.qcow2"
    run("create", "-q", "-f", "qcow2", image, 1 << 20)
    run_io(image, f"write {2 * CLUSTER} {CLUSTER}")
    data = bytearray(image.read_bytes())
    data.extend(bytes(-len(data) % CLUSTER))
    end = len(data) // CLUSTER
    table = struct.unpack_from(">Q", data, REFCOUNT_TABLE_OFFSET)[0]
    assert table == CLUSTER
    data += data[table : table + CLUSTER]
    struct.pack_into(">Q", data, REFCOUNT_TABLE_OFFSET, end * CLUSTER)
    struct.pack_into(">H", data, struct.unpack_from(">Q", data, table)[0] + 2 * end, 1)
    l1 = struct.unpack_from(">Q", data, L1_OFFSET)[0]
    l2 = struct.unpack_from(">Q", data, l1)[0] & ~COPIED
    struct.pack_into(">QQ", data, l2, ZERO, COPIED | CLUSTER | ZERO)
    image.write_bytes(data)
    run("snapshot", "-c", "theirs", image)
    check(image)
    node = opened(image)
    node.internal.take("ours", 1, 2)
    node.close()
    check(image)
    node = opened(image)
    node.internal.delete(node.snapshots)
    node.close()
    check(image)

"""Disks with far more tables than are kept in memory: new ones, too, leave before any of them is written."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.qcow2.limits import Limits
from tests.support.peers import require
from tests.support.qcow2_images import Recipe
from tests.support.qcow2_model import CALLS, SNAPSHOT_CALLS, Disk, Step, steps
from tests.support.thoroughness import examples

SIZE = (3 << 20) + 512
"""Of clusters of 512 bytes: 97 tables."""


FEW_TABLES = Limits(cached_tables=0, cached_counts=0)
"""As few as a cache keeps at least: four."""


@pytest.fixture(autouse=True, scope="module")
def qemu() -> None:
    require("qemu-img", "qemu-io")


@settings(max_examples=examples(12))
@given(
    st.sampled_from(["none", "data", "zeros", "metadata"]),
    st.sampled_from([None, "raw", "qcow2"]),
    st.lists(steps(CALLS | {"write": 9} | SNAPSHOT_CALLS), min_size=10, max_size=40),
)
def test_a_disk_holds_what_was_last_put_there(content: str, backing: str | None, todo: list[Step]) -> None:
    recipe = Recipe(cluster_size=512, size=SIZE, content=content, backing=backing, backing_size=1 << 20)
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, held = recipe.make(Path(name))
        disk = Disk(image, held, limits=FEW_TABLES)
        try:
            for step in todo:
                disk.do(step)
            disk.check()
        finally:
            disk.node.close()

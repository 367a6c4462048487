"""Snapshots inside qcow2 images, taken, dropped and gone back to, against plain bytes."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.interop.peers import require
from tests.interop.qcow2_images import Recipe, recipes
from tests.interop.qcow2_model import CALLS, Disk, Step, steps


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


@settings(max_examples=12)
@given(
    recipes().filter(lambda recipe: recipe.refcount_bits > 2),
    st.lists(steps(CALLS | {"take": 4, "apply": 3, "delete": 2}), min_size=4, max_size=25),
)
def test_a_disk_goes_back_to_what_it_held(recipe: Recipe, todo: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, held = recipe.make(Path(name))
        disk = Disk(image, held, {"before": held} if recipe.has_snapshot else None)
        try:
            for step in todo:
                disk.do(step)
            disk.check(leaks=recipe.content == "bitmap")
        finally:
            disk.node.close()

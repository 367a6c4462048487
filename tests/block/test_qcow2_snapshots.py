"""Snapshots inside qcow2 images, commits and overlays against plain byte arrays; qemu-img is the judge."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.image import open_image
from qmon.block.qcow2.node import Qcow2Node
from tests.interop.peers import require
from tests.interop.qcow2_images import Recipe, check, content, read, recipes


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


def opened(image: Path) -> Qcow2Node:
    node = open_image(str(image), "qcow2")
    assert isinstance(node, Qcow2Node)
    return node


@dataclass
class Disk:
    """An image with what it and its snapshots, by name, should hold."""

    image: Path
    held: bytearray
    snapshots: dict[str, bytes] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.node = opened(self.image)
        if self.node.snapshots:
            self.snapshots["before"] = bytes(self.held)

    def do(self, step: Step) -> None:
        size = len(self.held)
        offset = min(int(step.place * size), size - 1)
        length = min(step.length, size - offset)
        name = f"s{step.seed % 4}"
        there = [each for each in self.node.snapshots if each.name == name]
        match step.call:
            case "write":
                self.held[offset : offset + length] = random.Random(step.seed).randbytes(length)
                self.node.write(offset, self.held[offset : offset + length])
            case "zero":
                self.held[offset : offset + length] = bytes(length)
                self.node.zero(offset, length)
            case "flush":
                self.node.flush()
            case "take":
                self.node.internal.take(name, 1, 2, instead_of=there)
                self.snapshots[name] = bytes(self.held)
            case "delete":
                self.node.internal.delete(there)
                self.snapshots.pop(name, None)
            case "apply" if there:
                self.node.internal.apply(there[0])
                self.held = bytearray(self.snapshots[name])
            case "reopen":
                self.node.close()
                self.node = opened(self.image)
            case "resize" if self.node.header.version == 3:
                new = max(512, int(step.place * 2 * size) // 512 * 512)
                self.node.resize(new)
                self.held = self.held[:new] + bytearray(max(0, new - size))

    def check(self) -> None:
        assert self.node.size == len(self.held)
        assert read(self.node) == self.held
        self.node.close()
        check(self.image)
        assert content(self.image) == self.held
        for name, held in self.snapshots.items():
            shown = content(self.image, name)  # as much as the disk is long now
            assert shown[: len(held)] == held[: len(shown)]


@dataclass(frozen=True)
class Step:
    call: str
    place: float
    length: int
    seed: int


steps = st.builds(
    Step,
    st.sampled_from(
        ["write"] * 4 + ["take"] * 3 + ["apply", "apply", "delete", "zero", "flush", "reopen", "resize"]
    ),
    st.floats(0, 1),
    st.one_of(st.integers(1, 5000), st.integers(1, 300_000)),
    st.integers(0, 255),
)


@settings(max_examples=20)
@given(recipes().filter(lambda recipe: recipe.refcount_bits > 2), st.lists(steps, min_size=4, max_size=25))
def test_a_disk_goes_back_to_what_it_held(recipe: Recipe, todo: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, held = recipe.make(Path(name))
        disk = Disk(image, bytearray(held))
        try:
            for step in todo:
                disk.do(step)
            disk.check()
        finally:
            disk.node.close()

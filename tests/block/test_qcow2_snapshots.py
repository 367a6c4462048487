"""Snapshots inside qcow2 images, commits and overlays against plain byte arrays; qemu-img is the judge."""

from __future__ import annotations

import random
import tempfile
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.image import open_image
from qmon.block.qcow2 import node as qcow2_node
from qmon.block.qcow2.node import Qcow2Node
from tests.interop.peers import require
from tests.interop.qcow2_images import Recipe, check, content, read, recipes
from tests.interop.test_qcow2_power_loss import SIZE, Event, Moment, Recorder, after_failure, check_survivor


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


@settings(max_examples=12)
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


@pytest.mark.parametrize("seed", range(6))
def test_a_power_failure_leaves_the_disk_and_its_snapshots(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of version 3: version 2 has no dirty bit to say that COPIED marks may be wrong."""
    chance = random.Random(seed)
    recipe = Recipe(
        cluster_size=chance.choice([512, 512, 4096, 65536]),
        size=SIZE,
        backing=chance.choice([None, "raw"]),
        backing_size=SIZE,
        content=chance.choice(["none", "data", "zeros"]),
    )
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, held = recipe.make(Path(name))
        before = image.read_bytes()
        recorder = Recorder()
        with monkeypatch.context() as patch:
            patch.setattr(qcow2_node, "FileNode", recorder.file_type())
            taken, moments = _use_snapshots(image, held, chance, recorder.events)
        for _ in range(12):
            moment = chance.randrange(len(recorder.events) + 1)
            survivor = image.with_name("survivor.qcow2")
            survivor.write_bytes(after_failure(before, recorder.events, moment, chance))
            opened(survivor).close()  # whoever opens it next sets its counts right
            check_survivor(survivor, moment, moments)
            node = opened(survivor)
            there = {each.name for each in node.snapshots}
            node.close()
            assert _names_at(moment, taken) <= there
            for each in there:
                assert content(survivor, each) == taken[each].held


@dataclass(frozen=True)
class Taken:
    """A snapshot, whose name is its own, with the events from which on it was made and it was dropped."""

    held: bytes
    start: int
    end: int
    dropped: int = 1 << 62


def _use_snapshots(
    image: Path, held: bytes, chance: random.Random, events: list[Event]
) -> tuple[dict[str, Taken], list[Moment]]:
    model = bytearray(held)
    moments = [Moment(0, 0, True, held)]
    taken: dict[str, Taken] = {}
    node = opened(image)
    for number in range(chance.randrange(4, 12)):
        start = len(events)
        call = chance.choice("wwwttda")
        there = node.snapshots
        if call == "w" or (call in "da" and not there):
            call = "w"
            offset = chance.randrange(SIZE // 512) * 512
            length = min(SIZE - offset, 512 * chance.randrange(1, 400))
            model[offset : offset + length] = chance.randbytes(length)
            node.write(offset, model[offset : offset + length])
        elif call == "t":
            node.internal.take(f"s{number}", 1, 2)
            taken[f"s{number}"] = Taken(bytes(model), start, len(events))
        elif call == "d":
            which = chance.choice(there)
            taken[which.name] = replace(taken[which.name], dropped=start)
            node.internal.delete([which])
        else:
            which = chance.choice(there)
            node.internal.apply(which)
            model[:] = taken[which.name].held
        moments.append(Moment(start, len(events), call != "w", bytes(model)))
    start = len(events)
    node.close()
    moments.append(Moment(start, len(events), True, bytes(model)))
    return taken, moments


def _names_at(moment: int, taken: dict[str, Taken]) -> set[str]:
    """The snapshots that must be there."""
    return {name for name, each in taken.items() if each.end <= moment <= each.dropped}

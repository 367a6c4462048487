"""A qcow2 image, overlays put on it and snapshots in them, beside plain bytes that say what they hold."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import strategies as st

from qmon.block.chain import commit, put_overlay
from qmon.block.extents import visible_extents
from qmon.block.image import look_at_image, open_image
from qmon.block.node import Kind
from qmon.block.qcow2.limits import LIMITS, Limits
from qmon.block.qcow2.node import Qcow2Node
from tests.support.qcow2_images import CLUSTER_SIZES, Recipe, check, content, read

MAX_OVERLAYS = 3


@dataclass(frozen=True)
class Step:
    """Something done to a disk; ``place`` says where, as a part of its size."""

    call: str
    place: float
    length: int
    seed: int


CALLS = {"write": 5, "zero": 1, "unmap": 1, "discard": 2, "flush": 1, "read": 1, "reopen": 1, "resize": 1}
SNAPSHOT_CALLS = {"take": 2, "delete": 1, "apply": 1}
CHAIN_CALLS = {"overlay": 1, "commit": 1}
_LENGTHS = st.one_of(st.integers(1, 5000), st.integers(1, 300_000), st.sampled_from([*CLUSTER_SIZES, 512]))


def steps(calls: dict[str, int]) -> st.SearchStrategy[Step]:
    """Something of all that there is to do, each as often as its number says."""
    names = [call for call, times in calls.items() for _ in range(times)]
    return st.builds(Step, st.sampled_from(names), st.floats(0, 1), _LENGTHS, st.integers(0, 255))


class Disk:
    """The topmost image, open, with the bytes that it should hold, and its snapshots, by image and name."""

    def __init__(
        self,
        image: Path,
        held: bytes,
        snapshots: dict[str, bytes] | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        self.image = image
        self.images = [image]
        self.held = bytearray(held)
        self.snapshots = {image: dict(snapshots or {})}
        self._limits = limits
        self.node = opened(image, limits=limits)

    def do(self, step: Step) -> None:
        size = len(self.held)
        offset = min(int(step.place * size), size - 1)
        if step.seed % 3 == 0:
            offset -= offset % min(step.length, 65536)
        length = min(step.length, size - offset)
        stop = offset + length
        match step.call:
            case "write":
                self.held[offset:stop] = random.Random(step.seed).randbytes(length)
                self.node.write(offset, self.held[offset:stop])
            case "zero" | "unmap":
                self.held[offset:stop] = bytes(length)
                self.node.zero(offset, length, unmap=step.call == "unmap")
            case "discard":
                self.node.discard(offset, length)
                left = read(self.node, offset, length)
                assert all(now in (0, was) for now, was in zip(left, self.held[offset:stop], strict=True))
                self.held[offset:stop] = left
            case "flush":
                self.node.flush()
            case "read":
                assert read(self.node, offset, length) == self.held[offset:stop]
            case "reopen":
                self.node.close()
                self.node = opened(self.image, limits=self._limits)
            case "resize":
                self.resize(max(512, int(step.place * 2 * size) // 512 * 512))
            case "overlay" if len(self.images) <= MAX_OVERLAYS:
                self.put_overlay()
            case "commit" if self.node.backing is not None:
                self.commit()
            case "take" | "delete" | "apply":
                self.use_snapshot(step)

    def resize(self, size: int) -> None:
        if self.node.header.version == 2 and self.node.snapshots:
            with pytest.raises(OSError, match="v2 image which has snapshots"):
                self.node.resize(size)
            return
        self.node.resize(size)
        assert self.node.size == size
        self.held = self.held[:size] + bytearray(max(0, size - len(self.held)))

    def use_snapshot(self, step: Step) -> None:
        name, kept = f"s{step.seed % 4}", self.snapshots[self.image]
        there = [each for each in self.node.snapshots if each.name == name]
        internal = self.node.internal
        if step.call == "take":
            if self.can_count(lambda: internal.take(name, 1, 2, instead_of=there)):
                kept[name] = bytes(self.held)
        elif there and step.call == "delete":
            internal.delete(there)
            del kept[name]
        elif there and self.can_count(lambda: internal.apply(there[0])):
            self.held = bytearray(kept[name])

    def can_count(self, call: Callable[[], object]) -> bool:
        """Do something for which the counts may be too narrow; whether they were not."""
        try:
            call()
        except OSError as error:
            if self.node.header.refcount_order > 2 or "has too many references" not in str(error):
                raise
            return False
        return True

    def put_overlay(self) -> None:
        file = self.image.with_name(f"overlay{len(self.images)}.qcow2")
        layers = look_at_image(str(self.image), "qcow2")
        self.node, _ = put_overlay(self.node, layers, str(file), create=True)
        self.image = file
        self.images.append(file)
        self.snapshots[file] = {}

    def commit(self) -> None:
        """Where it is refused nothing changes, which is seen later."""
        layers = look_at_image(str(self.image), "qcow2")
        refusals = []
        if self.node.snapshots:
            refusals.append("its snapshots would change")
        below = layers[1].header
        if below is not None and below.version == 2 and below.snapshots and layers[1].size < self.node.size:
            refusals.append("v2 image which has snapshots")
        if not refusals:
            commit(self.node, layers[1])
            assert all(each.kind is Kind.BACKING for each in self.node.extents(0, self.node.size))
            return
        with pytest.raises(OSError, match=refusals[0]):
            commit(self.node, layers[1])

    def check(self, *, leaks: bool = False) -> None:
        """All is there for us while it is open, and for QEMU afterwards; ``leaks`` are allowed or not."""
        assert read(self.node) == self.held
        end = 0
        for extent in visible_extents(self.node, 0, self.node.size):
            assert (extent.offset, extent.kind is Kind.BACKING) == (end, False)
            assert extent.kind is Kind.DATA or not any(self.held[extent.offset : extent.end])
            end = extent.end
        assert end == len(self.held)
        self.node.close()
        for image in self.images:
            check(image, leaks=leaks)
            for name, held in self.snapshots[image].items():
                shown = content(image, name)  # as much as the disk is long now
                assert shown[: len(held)] == held[: len(shown)]
        assert content(self.image) == self.held


def put_through(recipe: Recipe, todo: Iterable[Step]) -> None:
    """Do things to an image made by a recipe; it must hold what it should then, and in order."""
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        image, held = recipe.make(Path(name))
        disk = Disk(image, held, {"before": held} if recipe.has_snapshot else None)
        try:
            for step in todo:
                disk.do(step)
            disk.check(leaks=recipe.content == "bitmap")
        finally:
            disk.node.close()


def opened(image: Path, *, read_only: bool = False, limits: Limits = LIMITS) -> Qcow2Node:
    """An image that is qcow2, with what backs it."""
    node = open_image(str(image), "qcow2", read_only=read_only, limits=limits)
    assert isinstance(node, Qcow2Node)
    return node

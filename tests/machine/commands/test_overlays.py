"""Drives that go on in overlays, and are committed, against a plain byte array; qemu-img is the judge."""

from __future__ import annotations

import itertools
import random
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from tests.support.peers import require
from tests.support.qcow2_images import Recipe, check, content, read, recipes
from tests.support.qcow2_model import Step, steps
from tests.support.thoroughness import examples


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-io")


CALLS = {"write": 5, "overlay": 2, "commit": 2, "take": 1, "apply": 1, "delete": 1, "zero": 1, "discard": 1}
CALLS |= {"reopen": 1, "resize": 1}


class Disk:
    """A drive with what it, its snapshots and the images below should hold."""

    def __init__(self, folder: Path, image: Path, image_format: str, held: bytes) -> None:
        self.folder = folder
        self.held = bytearray(held)
        self.snapshots: dict[str, bytes] = {}
        """Of the topmost image, by name."""
        self._names = (f"#block{number}" for number in itertools.count())
        self._overlays = 0
        self.drive = self._open(str(image), image_format)

    def _open(self, image: str, image_format: str) -> Drive:
        drive = Drive(DriveOptions("d", image, image_format, "none", False), lambda: next(self._names))
        drive.activate()
        return drive

    def do(self, step: Step) -> None:
        drive, size = self.drive, len(self.held)
        offset = min(int(step.place * size), size - 1)
        length = min(step.length, size - offset)
        name = f"s{step.seed % 3}"
        match step.call:
            case "write":
                self.held[offset : offset + length] = random.Random(step.seed).randbytes(length)
                drive.node.write(offset, self.held[offset : offset + length])
            case "zero":
                self.held[offset : offset + length] = bytes(length)
                drive.node.zero(offset, length)
            case "discard":
                drive.node.discard(offset, length)
                self.held[offset : offset + length] = read(drive.node, offset, length)
            case "overlay":
                self._overlays += 1
                drive.put_overlay(str(self.folder / f"over{self._overlays}"), create=True, name=None)
                self.snapshots = {}
            case "commit" if len(drive.layers) > 1:
                self._commit()
            case "take" if drive.format == "qcow2":
                there = [each for each in drive.snapshots if each.name == name]
                drive.internal_snapshots.take(name, 1, 2, instead_of=there)
                self.snapshots[name] = bytes(self.held)
            case "apply" if name in self.snapshots:
                drive.internal_snapshots.apply(next(each for each in drive.snapshots if each.name == name))
                self.held = bytearray(self.snapshots[name])
            case "delete" if name in self.snapshots:
                drive.internal_snapshots.delete([each for each in drive.snapshots if each.name == name])
                del self.snapshots[name]
            case "reopen":
                drive.close()
                self.drive = self._open(drive.image, drive.format)
            case "resize":
                new = max(512, int(step.place * 2 * size) // 512 * 512)
                drive.node.resize(new)
                self.held = self.held[:new] + bytearray(max(0, new - size))

    def _commit(self) -> None:
        drive = self.drive
        if drive.snapshots:
            with pytest.raises(OSError, match="delete them first"):
                drive.commit()
            return
        drive.commit()
        assert all(extent.kind.value == "backing" for extent in drive.node.extents(0, drive.size))

    def check(self, *, leaks: bool) -> None:
        assert self.drive.size == len(self.held)
        assert read(self.drive.node) == self.held
        layers = self.drive.layers
        self.drive.close()
        for layer in layers:
            if layer.format == "qcow2":
                check(Path(layer.file), leaks=leaks)
        if layers[0].format == "qcow2":
            assert content(Path(layers[0].file)) == self.held
            for name, held in self.snapshots.items():
                shown = content(Path(layers[0].file), name)
                assert shown[: len(held)] == held[: len(shown)]


@settings(max_examples=examples(12))
@given(
    recipes().filter(lambda recipe: recipe.refcount_bits > 2 and recipe.content != "snapshot"),
    st.booleans(),
    st.lists(steps(CALLS), min_size=4, max_size=25),
)
def test_overlays_come_on_top_and_are_committed(recipe: Recipe, is_raw: bool, todo: list[Step]) -> None:
    if recipe.compat == "0.10":
        todo = [step for step in todo if step.call != "resize"]
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as name:
        folder = Path(name)
        image, held = recipe.make(folder)
        if is_raw:
            image = folder / "disk.img"
            image.write_bytes(held)
        disk = Disk(folder, image, "raw" if is_raw else "qcow2", held)
        try:
            for step in todo:
                disk.do(step)
            disk.check(leaks=recipe.content == "bitmap")
        finally:
            disk.drive.close()

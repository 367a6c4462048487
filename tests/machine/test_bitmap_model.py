"""Dirty bitmaps against sets of chunks: writes, merges, resizes, closes and reopens; QEMU is the judge."""

from __future__ import annotations

import itertools
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.bitmaps import DirtyBitmap
from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from tests.support.bitmaps import dirty, stored
from tests.support.peers import require
from tests.support.qcow2_images import check, run
from tests.support.thoroughness import examples

KIB = 1 << 10
SIZE = 3 * 1024 * KIB
NAMES = ("a", "b", "c")
CLUSTER_SIZES = (512, 4096, 65536)

places = st.one_of(st.integers(0, SIZE), st.integers(0, SIZE >> 16).map(lambda number: number << 16))
steps = st.lists(
    st.tuples(
        st.sampled_from(
            "write write write zero discard add add remove clear switch merge merge"
            " resize reopen reopen move".split()
        ),
        places,
        st.integers(0, 9),
        st.sampled_from(NAMES),
        st.sampled_from(NAMES),
    ),
    min_size=3,
    max_size=25,
)
Step = tuple[str, int, int, str, str]


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img", "qemu-nbd", "nbdinfo")


@dataclass
class Expected:
    """What a bitmap should be: its chunks are numbers."""

    granularity: int
    persistent: bool
    recording: bool = True
    chunks: set[int] = field(default_factory=set)

    def mark(self, offset: int, length: int) -> None:
        if length:
            first, last = offset // self.granularity, (offset + length - 1) // self.granularity
            self.chunks |= set(range(first, last + 1))

    def runs(self, size: int) -> list[tuple[int, int]]:
        """The marked runs as (offset, length)."""
        found: list[tuple[int, int]] = []
        for chunk in sorted(self.chunks):
            start, end = chunk * self.granularity, min((chunk + 1) * self.granularity, size)
            if found and sum(found[-1]) == start:
                found[-1] = (found[-1][0], end - found[-1][0])
            else:
                found.append((start, end - start))
        return found


class Model:
    """A drive, and what its bitmaps should be."""

    def __init__(self, image: Path, image_format: str) -> None:
        self.image = image
        self.format = image_format
        self.size = SIZE
        self.expected: dict[str, Expected] = {}
        self.drive = self._open()

    def _open(self) -> Drive:
        names = (f"#block{number}" for number in itertools.count())
        drive = Drive(DriveOptions("d", str(self.image), self.format, "none", False), lambda: next(names))
        drive.activate()
        return drive

    def do(self, step: Step) -> None:
        call, offset, number, name, other = step
        offset = min(offset, self.size) // 512 * 512
        length = min((1 << number) * 512, self.size - offset)
        bitmaps, node = self.drive.bitmaps(), self.drive.node
        bitmap, expected = bitmaps.find(name), self.expected.get(name)
        match call:
            case "write" | "zero" | "discard":
                if call == "write":
                    node.write(offset, bytes(length))
                elif call == "zero":
                    node.zero(offset, length)
                else:
                    node.discard(offset, length)
                for each in self.expected.values():
                    if each.recording:
                        each.mark(offset, length)
            case "add" if bitmap is None:
                made = Expected(512 << number, self.format == "qcow2" and number % 3 > 0)
                bitmaps.add(DirtyBitmap(name, self.size, made.granularity, persistent=made.persistent))
                self.drive.track_writes()
                self.expected[name] = made
            case "remove" if bitmap is not None:
                self.drive.remove_bitmap(0, bitmap)
                del self.expected[name]
            case "clear" if bitmap is not None and expected is not None:
                bitmap.clear()
                expected.chunks.clear()
            case "switch" if bitmap is not None and expected is not None:
                bitmap.recording = expected.recording = not expected.recording
                bitmaps.refresh()
            case "merge" if bitmap is not None and expected is not None and other in self.expected:
                source = bitmaps.find(other)
                assert source is not None
                bitmap.merge(source)
                for start, run_length in self.expected[other].runs(self.size):
                    expected.mark(start, run_length)
            case "resize":
                self.size = max(64 * KIB, offset)
                node.resize(self.size)
                for each in self.expected.values():
                    each.chunks = {chunk for chunk in each.chunks if chunk * each.granularity < self.size}
            case "reopen":
                self.drive.close()
                self.drive = self._open()
                self.expected = {name: each for name, each in self.expected.items() if each.persistent}
            case "move":  # a migration has failed
                self.drive.deactivate()
                self.drive.activate()

    def check(self) -> None:
        found = {bitmap.name: bitmap for bitmap in self.drive.bitmaps()}
        assert found.keys() == self.expected.keys()
        for name, each in self.expected.items():
            bitmap = found[name]
            assert (bitmap.recording, bitmap.inconsistent, bitmap.size) == (each.recording, False, self.size)
            assert bitmap.count == len(each.chunks) * each.granularity
            marked = [(start, length) for start, length, is_dirty in bitmap.runs(0, self.size) if is_dirty]
            assert marked == each.runs(self.size)


@pytest.mark.parametrize("image_format", ["raw", *CLUSTER_SIZES])
@settings(max_examples=examples(25), deadline=None)
@given(todo=steps)
def test_bitmaps_mark_what_was_written(image_format: str | int, todo: list[Step]) -> None:
    with tempfile.TemporaryDirectory(prefix="qmon-test-") as folder:
        image = Path(folder) / "image"
        if image_format == "raw":
            image.write_bytes(bytes(SIZE))
        else:
            run("create", "-q", "-f", "qcow2", "-o", f"cluster_size={image_format}", image, str(SIZE))
        model = Model(image, "raw" if image_format == "raw" else "qcow2")
        try:
            for step in todo:
                model.do(step)
                model.check()
        finally:
            model.drive.close()
        if image_format != "raw":
            check(image)
            kept = {name: each for name, each in model.expected.items() if each.persistent}
            assert stored(image) == {
                name: (["auto"] * each.recording, each.granularity) for name, each in kept.items()
            }
            for name, each in kept.items():
                assert dirty(image, name) == each.runs(model.size)

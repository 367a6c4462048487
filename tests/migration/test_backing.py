"""Two backing images count as one when they hold the same, however it is stored; what is left may go."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.node import Extent, Kind
from qmon.errors import QmonError
from qmon.migration.backing import BLOCK, SAMPLE_BLOCKS, Leftovers, backing_mismatch, describe_backing
from tests.support.memory import MemoryDrive, MemoryNode
from tests.support.thoroughness import examples

ID = UUID(int=7)


class Stored(MemoryNode):
    """Everything is data, zeros too."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        yield Extent(offset, length, Kind.DATA)


class InBlocks(MemoryNode):
    """As its base, in larger steps."""

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        end = offset + length
        while offset < end:
            stop = min(end, offset // BLOCK * BLOCK + BLOCK)
            is_zero = self.data.count(0, offset, stop) == stop - offset
            yield Extent(offset, stop - offset, Kind.ZERO if is_zero else Kind.DATA)
            offset = stop


def agree(source: MemoryNode, target: MemoryNode, verify: str, migration: UUID = ID) -> bool:
    offered = describe_backing(source, verify, migration, lambda: None)
    assert offered.size == source.size
    return backing_mismatch("d0", target, offered, lambda: None) is None


def holding(kind: type[MemoryNode], content: bytes) -> MemoryNode:
    node = kind(len(content))
    node.data[:] = content
    return node


@settings(max_examples=examples(50), deadline=None)
@given(
    sectors=st.integers(1, 600),
    runs=st.lists(st.tuples(st.integers(0, 600), st.integers(1, 200)), max_size=4),
    kinds=st.tuples(st.sampled_from([MemoryNode, Stored]), st.sampled_from([MemoryNode, Stored])),
    place=st.integers(0, 1 << 20),
    verify=st.sampled_from(["sample", "full"]),
)
def test_small_images_agree_when_every_byte_does(
    sectors: int,
    runs: list[tuple[int, int]],
    kinds: tuple[type[MemoryNode], type[MemoryNode]],
    place: int,
    verify: str,
) -> None:
    content = bytearray(sectors * 512)
    for start, count in runs:
        end = min((start + count) * 512, len(content))
        content[start * 512 : end] = random.Random(start).randbytes(max(0, end - start * 512))
    source, target = (holding(kind, bytes(content)) for kind in kinds)
    assert agree(source, target, verify)
    target.data[place % len(content)] ^= 1
    assert not agree(source, target, verify)
    assert agree(source, target, "off")


def test_samples_of_a_large_image_are_of_its_data_and_others_each_time() -> None:
    size = 4 * SAMPLE_BLOCKS * BLOCK
    content = bytearray(size)
    content[size // 2 : size // 2 + 8 * BLOCK] = random.Random(1).randbytes(8 * BLOCK)
    source = holding(InBlocks, bytes(content))
    offered = describe_backing(source, "sample", ID, lambda: None)
    assert len(offered.samples) <= SAMPLE_BLOCKS
    assert sum(sample.length for sample in offered.samples) <= SAMPLE_BLOCKS * BLOCK
    assert {0, size - BLOCK, size // 2} <= {sample.offset for sample in offered.samples}
    assert describe_backing(source, "sample", UUID(int=8), lambda: None) != offered
    other = holding(InBlocks, bytes(size))
    assert not agree(source, other, "sample")
    assert not agree(other, source, "sample")


def test_who_waits_can_end_it() -> None:
    def stop() -> None:
        raise QmonError("enough")

    with pytest.raises(QmonError, match="enough"):
        describe_backing(holding(Stored, b"x" * BLOCK), "full", ID, stop)


class TestLeftovers:
    """Emptying is asked of the drive by its calls alone."""

    class Overlay(MemoryDrive):
        def __init__(self, path: Path) -> None:
            super().__init__(bytes(1 << 20))
            self.image = str(path)
            path.write_bytes(b"overlay")
            self.emptied = 0

        def leave_to_backing(self, offset: int, length: int) -> None:
            self.emptied += length

    def emptied(self, leftovers: Leftovers, overlay: Overlay) -> bool:
        before = overlay.emptied
        leftovers.empty(overlay, lambda: None)
        return overlay.emptied - before == overlay.size

    def test_only_what_a_copy_of_this_process_left_is_emptied(self, tmp_path: Path) -> None:
        mine, strange = self.Overlay(tmp_path / "mine"), self.Overlay(tmp_path / "strange")
        leftovers = Leftovers()
        leftovers.begun(mine.image)
        for each in (mine, strange):
            leftovers.closed(each.image)
            leftovers.opened(each.image)
        assert self.emptied(leftovers, mine)
        assert not self.emptied(leftovers, strange)
        leftovers.clear()
        assert not self.emptied(leftovers, mine)

    @pytest.mark.parametrize("change", ["write", "replace", "touch"])
    def test_an_image_that_was_changed_since_is_not_emptied_then_or_later(
        self, tmp_path: Path, change: str
    ) -> None:
        overlay = self.Overlay(tmp_path / "image")
        leftovers = Leftovers()
        leftovers.begun(overlay.image)
        leftovers.closed(overlay.image)
        path = Path(overlay.image)
        if change == "replace":
            (tmp_path / "other").write_bytes(path.read_bytes())
            (tmp_path / "other").rename(path)
        elif change == "write":
            path.write_bytes(b"another")
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))
        for _ in range(2):
            leftovers.opened(overlay.image)
            assert not self.emptied(leftovers, overlay)
            leftovers.closed(overlay.image)

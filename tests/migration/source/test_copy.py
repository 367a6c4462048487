"""What must travel does, and nothing else: the copy of a disk against the disk, while it is written."""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.image import open_image
from qmon.block.node import Extent, Filter, Node
from qmon.block.node import Kind as Holds
from qmon.block.qcow2.create import create_overlay
from qmon.block.qcow2.node import LOCKS
from qmon.migration.source.copy import ZERO_PIECE, Chunks, DriveCopy, pieces
from qmon.migration.wire.stream import MAX_PAYLOAD, PREAMBLE, Kind, section_start
from qmon.migration.wire.writer import IOV_LIMIT, RecordWriter
from tests.support.feeding import Feed
from tests.support.memory import SECTOR, MemoryDrive, MemoryNode
from tests.support.thoroughness import examples

CHUNK = 4096


class Line:
    """A copy's outlet, and what lies at its other end: a reader that applies what comes to ``disk``."""

    def __init__(self, disk: bytes, slice_size: int = MAX_PAYLOAD) -> None:
        self.disk = bytearray(disk)
        self._slice_size = slice_size
        self.meanwhile: Callable[[], None] = lambda: None
        self.writer = RecordWriter()
        self.writer.raw(PREAMBLE + section_start())
        self.batches: list[int] = []
        self.data_bytes = self.zero_bytes = self.pulses = 0
        self._feed = Feed()

    is_wanted = False

    def allowance(self) -> int:
        self.pulses += 1
        return self._slice_size

    def pulse(self) -> None:
        self.pulses += 1

    def push(self) -> None:
        self.send()

    def send(self) -> None:
        assert len(self.writer.buffers) < 2 * IOV_LIMIT, "more buffers than sendmsg takes"
        self.batches.append(self.writer.size)
        seen = len(self._feed.items)
        self._feed.give(b"".join(self.writer.buffers))
        for kind, _, offset, length, _, payload in self._feed.items[seen:]:
            if kind is Kind.DATA:
                self.disk[offset : offset + length] = payload
                self.data_bytes += length
            elif kind is Kind.ZERO:
                self.disk[offset : offset + length] = bytes(length)
                self.zero_bytes += length
        self.writer.clear()
        self.meanwhile()


def copy_onto(drive: MemoryDrive, line: Line, meanwhile: Callable[[], None] = lambda: None) -> DriveCopy:
    """Install a copy, tell it where the destination is zero, and send one round."""
    copy = DriveCopy(0, drive)
    for offset in range(0, len(line.disk), SECTOR):
        if not any(line.disk[offset : offset + SECTOR]):
            copy.known_zeros.add(offset, min(SECTOR, len(line.disk) - offset))
    for extent in zero_runs(bytes(line.disk)):
        copy.known_zeros.add(*extent)
    copy.install()
    meanwhile()
    line.meanwhile = meanwhile
    copy.send_dirty(line)
    line.meanwhile = lambda: None
    line.send()
    return copy


def zero_runs(content: bytes) -> Iterator[tuple[int, int]]:
    """The runs of sectors that hold zeros, as (offset, length)."""
    start = None
    for offset in [*range(0, len(content), SECTOR), len(content)]:
        is_zero = offset < len(content) and not any(content[offset : offset + SECTOR])
        if is_zero and start is None:
            start = offset
        elif not is_zero and start is not None:
            yield start, offset - start
            start = None


def disk_content(pattern: list[tuple[bool, int]], size: int, seed: int) -> bytes:
    """Runs of data and zeros, whole sectors, up to ``size``."""
    noise = random.Random(seed)
    content = b"".join(
        noise.randbytes(count * SECTOR) if data else bytes(count * SECTOR) for data, count in pattern
    )
    return content[:size] + bytes(max(0, size - len(content)))


patterns = st.lists(st.tuples(st.booleans(), st.integers(1, 300)), max_size=8)


class TestWholeCopy:
    @settings(max_examples=examples(60), deadline=None)
    @given(
        sectors=st.integers(0, 600),
        source=patterns,
        destination=patterns,
        slice_size=st.sampled_from([4096, 16 << 10, 100_000, MAX_PAYLOAD]),
        seed=st.integers(0, 1000),
    )
    def test_the_destination_is_the_source_whatever_was_there_and_whatever_is_written(
        self,
        sectors: int,
        source: list[tuple[bool, int]],
        destination: list[tuple[bool, int]],
        slice_size: int,
        seed: int,
    ) -> None:
        size = sectors * SECTOR
        drive = MemoryDrive(disk_content(source, size, 1))
        line = Line(disk_content(destination, size, 2), slice_size)
        dice = random.Random(seed)
        writes = iter(range(20))

        def guest() -> None:
            if size and next(writes, None) is not None:
                offset = dice.randrange(size)
                length = min(dice.randrange(1, 20_000), size - offset)
                if dice.random() < 0.7:
                    drive.node.write(offset, dice.randbytes(length))
                else:
                    drive.node.zero(offset, length, unmap=dice.random() < 0.5)

        copy = copy_onto(drive, line, guest)
        while copy.dirty.dirty_bytes:
            assert copy.remaining >= copy.dirty.dirty_bytes
            copy.send_dirty(line)
            line.send()
        assert copy.remaining == 0
        assert line.disk == drive.memory.data
        copy.uninstall()
        assert drive.node is drive.memory

    def test_what_is_zero_on_both_sides_is_not_sent(self) -> None:
        drive = MemoryDrive(bytes(1 << 20))
        line = Line(bytes(1 << 20))
        copy_onto(drive, line)
        assert (line.data_bytes, line.zero_bytes) == (0, 0)

    def test_zeros_travel_by_length_over_what_the_destination_held(self) -> None:
        drive = MemoryDrive(bytes(1 << 20))
        line = Line(b"x" * (1 << 20))
        copy_onto(drive, line)
        assert line.disk == bytes(1 << 20)
        assert (line.data_bytes, line.zero_bytes) == (0, 1 << 20)
        assert sum(line.batches) < 100_000

    def test_zeros_that_are_stored_as_data_travel_by_length(self) -> None:
        class Stored(MemoryNode):
            def extents(self, offset: int, length: int) -> Iterator[Extent]:
                yield Extent(offset, length, Holds.DATA)

        drive = MemoryDrive(bytes(1 << 20))
        stored = Stored(1 << 20)
        drive.stack.put(stored)
        stored.data[512 << 10 : 513 << 10] = b"x" * 1024
        line = Line(b"y" * (1 << 20))
        copy_onto(drive, line)
        assert line.disk == stored.data
        assert (line.data_bytes, line.zero_bytes) == (ZERO_PIECE, (1 << 20) - ZERO_PIECE)

    @pytest.mark.parametrize("slice_size", [4096, 64 << 10, 256 << 10])
    def test_at_a_low_bandwidth_little_is_sent_at_once(self, slice_size: int) -> None:
        drive = MemoryDrive(random.Random(0).randbytes(1 << 20))
        line = Line(bytes(1 << 20), slice_size)
        copy_onto(drive, line)
        assert line.disk == drive.memory.data
        assert max(line.batches) <= 2 * slice_size + 4096

    def test_zeros_in_many_pieces_are_sent_before_there_are_too_many(self) -> None:
        size = 16 << 20
        drive = MemoryDrive(bytes(size))
        line = Line((b"x" * CHUNK + bytes(CHUNK)) * (size // CHUNK // 2))
        copy_onto(drive, line)
        assert line.disk == bytes(size)
        assert line.zero_bytes == size // 2

    def test_a_write_on_its_way_through_a_filter_that_was_taken_away_still_lands(self) -> None:
        drive = MemoryDrive(bytes(CHUNK))
        copy = DriveCopy(0, drive)
        copy.install()
        through = drive.node
        copy.uninstall()
        copy.uninstall()
        through.write(0, b"late")
        assert drive.memory.data[:4] == b"late"


BLOCK = 16 << 10
LEAST_MEMORY = 256 << 20
"""The tmpfs of a container has 64 MiB, and two tests at once fill it."""


def _is_large(folder: str) -> bool:
    found = os.statvfs(folder)
    return found.f_blocks * found.f_frsize >= LEAST_MEMORY


FOLDERS = [None, *(folder for folder in ["/dev/shm"] if os.access(folder, os.W_OK) and _is_large(folder))]

parts = st.lists(
    st.tuples(st.sampled_from(["data", "zeros", "hole", "splinters"]), st.integers(1, 40)), max_size=8
)


@pytest.fixture(scope="module", params=FOLDERS, ids=lambda folder: "tmp" if folder is None else "tmpfs")
def folder(request: pytest.FixtureRequest) -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="qmon-test-", dir=request.param) as name:
        yield Path(name)


class Counted(Filter):
    """Knows how often it was asked what lies where."""

    asked = 0

    def extents(self, offset: int, length: int) -> Iterator[Extent]:
        self.asked += 1
        return super().extents(offset, length)


def fill(node: Node, kind: str, offset: int, length: int) -> None:
    """Write down data, zeros as data, a hole, or each of them in turn, by 4 KiB."""
    match kind:
        case "data":
            node.write(offset, random.Random(offset).randbytes(length))
        case "zeros":
            node.write(offset, bytes(length))
        case "hole":
            node.zero(offset, length, unmap=True)
        case "splinters":
            for number, start in enumerate(range(offset, offset + length, CHUNK)):
                fill(node, ("data", "hole", "zeros", "hole")[number % 4], start, CHUNK)


class TestFiles:
    """Zeros that are stored, beside data and holes, on the file systems at hand and in a qcow2 image."""

    @contextlib.contextmanager
    def disk(self, folder: Path, form: str, size: int) -> Iterator[Node]:
        """An empty one: raw, or qcow2 over nothing, or over an image that holds stored zeros and data."""
        image, base = folder / "disk.img", folder / "base.img"
        for path in (image, base):
            path.unlink(missing_ok=True)
        with base.open("wb") as file:
            file.truncate(size)
            if form == "overlay":
                file.write(bytes(size // 2) + random.Random(1).randbytes(size // 4))
        if form == "raw":
            base.rename(image)
        else:
            create_overlay(str(image), size, base.name, "raw", LOCKS)
        node = open_image(str(image), "raw" if form == "raw" else "qcow2", lock=False)
        try:
            yield node
        finally:
            node.close()

    @pytest.mark.parametrize("form", ["raw", "qcow2", "overlay"])
    @settings(max_examples=examples(25), deadline=None)
    @given(
        layout=parts,
        there=patterns,
        slice_size=st.sampled_from([4096, 64 << 10, MAX_PAYLOAD]),
        seed=st.integers(0, 1000),
    )
    def test_the_destination_is_the_source(
        self,
        folder: Path,
        form: str,
        layout: list[tuple[str, int]],
        there: list[tuple[bool, int]],
        slice_size: int,
        seed: int,
    ) -> None:
        size = sum(count for _, count in layout) * BLOCK + 512
        with self.disk(folder, form, size) as node:
            position = 0
            for kind, count in layout:
                fill(node, kind, position, count * BLOCK)
                position += count * BLOCK
            drive = MemoryDrive(b"")
            drive.stack.put(node)
            line = Line(disk_content(there, size, 2), slice_size)
            dice = random.Random(seed)
            writes = iter(range(20))

            def guest() -> None:
                if next(writes, None) is not None:
                    offset = dice.randrange(size) // 512 * 512
                    length = min(dice.choice([512, CHUNK, 4 * BLOCK, 40 * BLOCK]), size - offset)
                    fill(drive.node, dice.choice(["data", "zeros", "hole"]), offset, length)

            copy = copy_onto(drive, line, guest)
            while copy.dirty.dirty_bytes:
                copy.send_dirty(line)
                line.send()
            held = bytearray(size)
            node.read_into(0, memoryview(held))
            assert line.disk == held

    @pytest.mark.parametrize("slice_size", [64 << 10, MAX_PAYLOAD])
    @pytest.mark.parametrize("form", ["raw", "qcow2"])
    @pytest.mark.parametrize("layout", [["zeros"], ["data", "zeros"], ["zeros", "splinters"]], ids="+".join)
    def test_where_stored_zeros_end_is_not_asked_at_each_step(
        self, folder: Path, form: str, slice_size: int, layout: list[str]
    ) -> None:
        """A file system may look at every page to answer: it would take a time that grows with the square."""
        size = 32 << 20
        with self.disk(folder, form, size) as node:
            for number in range(32):
                fill(node, layout[number % len(layout)], number << 20, 1 << 20)
            drive = MemoryDrive(b"")
            counted = Counted(node)
            drive.stack.put(counted)
            line = Line(bytes(size), slice_size)
            copy = copy_onto(drive, line)
            assert counted.asked <= 6
            assert line.pulses >= 8, "nothing is heard while zeros are read that the destination has"
            counted.asked = 0
            for offset in range(0, size, 1 << 20):
                drive.node.write(offset, bytes(CHUNK))
            copy.send_dirty(line)
            assert counted.asked == 0, "there is no more to a run than has been read"


class TestPieces:
    @settings(deadline=None)
    @given(
        st.lists(st.sampled_from([0, 0, 1, 100, ZERO_PIECE - 1, None]), max_size=12),
        st.integers(0, ZERO_PIECE),
    )
    def test_they_are_the_longest_runs_seen_in_steps(self, steps: list[int | None], tail: int) -> None:
        """``steps`` is where each step holds a byte that is not zero, if it holds one."""
        buffer = bytearray(len(steps) * ZERO_PIECE + tail)
        for number, place in enumerate(steps):
            if place:
                buffer[number * ZERO_PIECE + place] = 1
        found = list(pieces(memoryview(buffer)))
        assert found[0][0] == 0
        assert found[-1][0] + found[-1][1] == len(buffer)
        for (start, length, is_zero), (after, _, other) in itertools.pairwise(found):
            assert start + length == after
            assert is_zero != other, "two runs of one kind"
        for start, length, is_zero in found:
            for step in range(start, start + length, ZERO_PIECE):
                stop = min(step + ZERO_PIECE, start + length)
                assert is_zero == (not any(buffer[step:stop])) or not length


class TestChunks:
    @given(
        st.integers(1, 40 * CHUNK),
        st.lists(st.tuples(st.integers(0, 45 * CHUNK), st.integers(0, 45 * CHUNK)), max_size=6),
        st.integers(0, 40 * CHUNK),
        st.integers(0, 40 * CHUNK),
    )
    def test_a_chunk_is_known_when_all_of_it_is(
        self, size: int, added: list[tuple[int, int]], offset: int, length: int
    ) -> None:
        """Also when a peer speaks of what lies behind the end."""
        known = Chunks(size, CHUNK)
        chunks: set[int] = set()
        for start, span in added:
            known.add(start, span)
            for chunk in range(-(-size // CHUNK)):
                stop = min((chunk + 1) * CHUNK, size)
                if start <= chunk * CHUNK and stop <= start + span:
                    chunks.add(chunk)
        offset %= size
        length = min(length, size - offset)
        unknown = {
            chunk
            for start, span in known.unknown(offset, length)
            for chunk in range(start // CHUNK, -(-(start + span) // CHUNK))
        }
        asked = range(offset // CHUNK, -(-(offset + length) // CHUNK))
        assert unknown == set(asked) - chunks

    @given(st.integers(0, (1 << 64) - 1), st.integers(0, (1 << 64) - 1))
    def test_a_range_from_anywhere_does_no_harm(self, offset: int, length: int) -> None:
        known = Chunks(10 * CHUNK, CHUNK)
        known.add(offset, length)
        assert sum(span for _, span in known.unknown(0, 10 * CHUNK)) <= 10 * CHUNK

"""The dirty map against a set of chunks, and the promise that no change goes unmarked."""

from __future__ import annotations

import contextlib
import errno
import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.dirty import MAX_CHUNKS, MIN_GRANULARITY, DirtyFilter, DirtyMap, granularity_for
from qmon.notation.units import GIB, TIB
from tests.support.memory import MemoryNode

GRANULARITY = 512


class Model:
    """The same map as a set of chunk numbers."""

    def __init__(self, size: int) -> None:
        self.size, self.chunks = size, set[int]()

    def mark(self, offset: int, length: int) -> None:
        if length:
            self.chunks |= set(range(offset // GRANULARITY, (offset + length - 1) // GRANULARITY + 1))

    def run(self, chunk: int, limit: int) -> tuple[int, int] | None:
        """The first run at or after ``chunk``, at most ``limit`` chunks of it, in bytes."""
        first = min((each for each in self.chunks if each >= chunk), default=None)
        if first is None:
            return None
        last = first
        while last in self.chunks and last - first < limit:
            last += 1
        return first * GRANULARITY, min(last * GRANULARITY, self.size) - first * GRANULARITY

    def take(self, start: int, limit: int) -> tuple[int, int] | None:
        found = self.run(start // GRANULARITY, max(1, limit // GRANULARITY))
        if found is not None:
            offset, length = found
            self.chunks -= set(range(offset // GRANULARITY, -(-(offset + length) // GRANULARITY)))
        return found

    def runs(self) -> list[tuple[int, int]]:
        found, position = [], 0
        while (run := self.run(position, 1 << 60)) is not None:
            found.append(run)
            position = -(-(run[0] + run[1]) // GRANULARITY)
        return found


def runs(dirty: DirtyMap) -> list[tuple[int, int]]:
    """What is marked, in bytes: all that lies between the clean parts."""
    found, position = [], 0
    for start, length in [*dirty.clean(0, dirty.size), (dirty.size, 0)]:
        if start > position:
            found.append((position, start - position))
        position = start + length
    return found


numbers = st.integers(0, 40 * GRANULARITY)
steps = st.lists(st.tuples(st.sampled_from(["mark", "mark", "take"]), numbers, numbers))


@given(st.integers(0, 40 * GRANULARITY), steps)
def test_the_map_holds_what_was_marked_and_not_taken(size: int, todo: list[tuple[str, int, int]]) -> None:
    dirty, model = DirtyMap(size, GRANULARITY), Model(size)
    for call, first, second in todo:
        offset = first % (size + 1)
        if call == "mark":
            length = min(second, size - offset)
            dirty.mark(offset, length)
            model.mark(offset, length)
        else:
            assert dirty.take(offset, second) == model.take(offset, second)
        assert runs(dirty) == model.runs()
        assert dirty.dirty_bytes == min(len(model.chunks) * GRANULARITY, size)


@given(st.integers(0, 1 << 20), st.integers(0, 1 << 20), st.integers(0, 1 << 20))
def test_marks_over_many_chunks_are_counted_once(size: int, first: int, second: int) -> None:
    """Larger than one step of the count, and laid over each other."""
    dirty = DirtyMap(size, 1)
    spans = [(0, min(first, size)), (min(second, size), size)]
    for start, stop in spans:
        dirty.mark(start, stop - start)
    (a, b), (c, d) = spans
    assert dirty.dirty_bytes == (b - a) + (d - c) - max(0, min(b, d) - max(a, c))


@pytest.mark.parametrize(
    ("size", "expected"),
    [(0, 4096), (1, 4096), (64 * GIB, 4096), (64 * GIB + 1, 8192), (TIB, 65536), (TIB + 1, 131072)],
)
def test_a_large_disk_has_larger_chunks_not_a_larger_map(size: int, expected: int) -> None:
    assert granularity_for(size) == expected


@given(st.integers(0, 1 << 62))
def test_granularity_is_the_least_that_will_do(size: int) -> None:
    granularity = granularity_for(size)
    assert granularity & (granularity - 1) == 0
    assert -(-size // granularity) <= MAX_CHUNKS
    assert granularity == MIN_GRANULARITY or -(-size // (granularity // 2)) > MAX_CHUNKS


def test_no_mark_is_lost_between_threads() -> None:
    """Each marks a chunk after putting a number there. Whoever takes the mark then finds that number, or
    the mark set once more: at the end everything that was written last has been read after."""
    chunks, writers = 64, 3
    dirty = DirtyMap(chunks * GRANULARITY, GRANULARITY)
    disk, copied = [0] * chunks, [0] * chunks
    writing = threading.Semaphore(0)

    def write(seed: int) -> None:
        for number in range(1, 3001):
            chunk = (number * seed) % chunks
            disk[chunk] = number * writers + seed
            if number % 17:
                dirty.mark(chunk * GRANULARITY, 1)
            else:
                dirty.mark(chunk * GRANULARITY, min(3, chunks - chunk) * GRANULARITY)
        writing.release()

    def copy() -> bool:
        position, found = 0, False
        while run := dirty.take(position, 8 * GRANULARITY):
            found = True
            position = run[0] + run[1]
            for chunk in range(run[0] // GRANULARITY, position // GRANULARITY):
                copied[chunk] = disk[chunk]
        return found

    threads = [threading.Thread(target=write, args=(seed,)) for seed in (1, 5, 11)]
    for thread in threads:
        thread.start()
    ended = 0
    while ended < writers:
        copy()
        ended += writing.acquire(blocking=False)
    for thread in threads:
        thread.join()
    copy()
    assert copied == disk
    assert dirty.dirty_bytes == 0
    assert runs(dirty) == []


@given(
    st.lists(st.tuples(st.integers(0, 40 * GRANULARITY), st.integers(0, 9 * GRANULARITY)), max_size=6),
    st.integers(0, 40 * GRANULARITY),
    st.integers(0, 10 * GRANULARITY),
)
def test_the_clean_parts_of_a_range_are_all_that_is_not_marked(
    marks: list[tuple[int, int]], offset: int, length: int
) -> None:
    dirty, model = DirtyMap(50 * GRANULARITY, GRANULARITY), Model(50 * GRANULARITY)
    for mark in marks:
        dirty.mark(*mark)
        model.mark(*mark)
    clean = {point for start, span in dirty.clean(offset, length) for point in range(start, start + span)}
    expected = {point for point in range(offset, offset + length) if point // GRANULARITY not in model.chunks}
    assert clean == expected


class TestFilter:
    def node(self) -> tuple[MemoryNode, DirtyFilter]:
        memory = MemoryNode(16 * GRANULARITY)
        return memory, DirtyFilter(memory, DirtyMap(memory.size, GRANULARITY))

    @pytest.mark.parametrize("call", ["write", "zero", "zero-unmap", "discard"])
    @pytest.mark.parametrize("fails", [False, True])
    def test_a_change_is_marked_also_when_it_failed_half_way(self, call: str, fails: bool) -> None:
        memory, node = self.node()
        if fails:
            memory.failures[call] = errno.EIO
        offset, length = 3 * GRANULARITY + 100, 2 * GRANULARITY
        with pytest.raises(OSError, match="Input/output error") if fails else contextlib.nullcontext():
            match call:
                case "write":
                    node.write(offset, b"x" * length)
                case "discard":
                    node.discard(offset, length)
                case _:
                    node.zero(offset, length, unmap=call == "zero-unmap")
        assert runs(node.dirty) == [(3 * GRANULARITY, 3 * GRANULARITY)]
        assert memory.calls[call] == 1

    def test_the_mark_is_set_after_the_change_has_landed(self) -> None:
        """Else a copy could clear it and still read what was there before."""
        memory, node = self.node()
        marked: list[int] = []
        write = memory.write

        def watched(offset: int, data: bytes | bytearray | memoryview) -> None:
            marked.append(node.dirty.dirty_bytes)
            write(offset, data)
            marked.append(node.dirty.dirty_bytes)

        memory.write = watched  # type: ignore[method-assign]  # a spy between the filter and the node
        node.write(0, b"x")
        assert marked == [0, 0]
        assert node.dirty.dirty_bytes == GRANULARITY

    def test_what_changes_nothing_marks_nothing(self) -> None:
        memory, node = self.node()
        memory.data[5] = 7
        buffer = bytearray(16)
        node.read_into(0, memoryview(buffer))
        node.flush()
        assert [extent.length for extent in node.extents(0, node.size)] == [512] * 16
        assert (buffer[5], node.size, node.read_only) == (7, memory.size, False)
        assert node.dirty.dirty_bytes == 0
        assert memory.calls["flush"] == 1

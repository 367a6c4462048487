"""What was written last is remembered, in little memory, whatever was written before."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.recent import GRAIN, KEPT, PIECE, RecentFilter, RecentWrites
from tests.support.memory import MemoryNode

SIZE = 64 << 20
ALL = 1 << 30

writes = st.lists(
    st.tuples(st.integers(0, SIZE // 512 - 1), st.integers(1, 4096)).map(
        lambda each: (each[0] * 512, min(each[1] * 512, SIZE - each[0] * 512))
    ),
    min_size=1,
    max_size=30,
)


def covered(found: list[tuple[int, int]], place: int) -> bool:
    return any(offset <= place < offset + length for offset, length in found)


@given(writes, st.integers(1, 40), st.integers(0, 1 << 20))
def test_beginning_and_end_of_each_write_are_given_out_and_no_more_than_asked_for(
    ranges: list[tuple[int, int]], most: int, most_bytes: int
) -> None:
    recent = RecentWrites()
    for each in ranges:
        recent.note(*each)
    found = recent.newest(SIZE, ALL, ALL)
    assert all(offset >= 0 and 0 < length <= PIECE and offset + length <= SIZE for offset, length in found)
    assert all(offset % GRAIN == 0 for offset, _ in found)
    for offset, length in ranges:
        assert covered(found, offset)
        assert covered(found, offset + length - 512)
    few = recent.newest(SIZE, most, most_bytes)
    assert few == found[: len(few)]
    assert len(few) <= most
    assert sum(length for _, length in few) <= most_bytes


def test_the_newest_come_first_and_the_oldest_are_forgotten() -> None:
    recent = RecentWrites()
    for number in range(10 * KEPT):
        recent.note(number * 4096, 512)
    newest = 10 * KEPT - 1
    found = recent.newest(ALL, ALL, ALL)
    assert found[0][0] == newest * 4096
    assert KEPT <= len(found) <= 2 * KEPT + 2
    assert {offset for offset, _ in found} >= {(newest - back) * 4096 for back in range(KEPT)}


def test_one_place_that_is_written_all_the_time_drives_no_other_out() -> None:
    recent = RecentWrites()
    recent.note(1 << 20, 512)
    for _ in range(10 * KEPT):
        recent.note(0, 4096)
    assert covered(recent.newest(SIZE, ALL, ALL), 1 << 20)


def test_a_disk_that_has_become_smaller_since() -> None:
    recent = RecentWrites()
    recent.note(0, 1 << 20)
    recent.note(8 << 20, 512)
    assert all(offset + length <= 512 for offset, length in recent.newest(512, ALL, ALL))


@pytest.mark.parametrize("call", ["write", "zero", "discard"])
def test_every_change_is_noted_and_one_that_failed_too(call: str) -> None:
    memory, recent = MemoryNode(1 << 20), RecentWrites()
    node = RecentFilter(memory, recent)
    marks = recent.watch(node.size)
    calls: dict[str, Callable[[], None]] = {
        "write": lambda: node.write(8192, b"x" * 512),
        "zero": lambda: node.zero(8192, 512),
        "discard": lambda: node.discard(8192, 512),
    }
    ask = calls[call]
    ask()
    memory.failures["zero-unmap" if call == "zero" else call] = errno.EIO
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        ask()
    assert recent.newest(node.size, ALL, ALL) == [(8192, GRAIN)]
    assert marks.dirty_bytes == GRAIN
    recent.unwatch()
    recent.note(0, 512)
    assert marks.dirty_bytes == GRAIN


def test_many_threads_note_at_once() -> None:
    recent = RecentWrites()

    def work(start: int) -> None:
        for number in range(3 * KEPT):
            recent.note((start + 8 * number) * 4096, 512)

    threads = [threading.Thread(target=work, args=(start,)) for start in range(8)]
    for each in threads:
        each.start()
    while any(each.is_alive() for each in threads):
        assert len(recent.newest(ALL, 100, ALL)) <= 100
    for each in threads:
        each.join()
    last = {(start + 8 * (3 * KEPT - 1)) * 4096 for start in range(8)}
    assert len(last & {offset for offset, _ in recent.newest(ALL, ALL, ALL)}) >= 1
    assert len(recent.newest(ALL, ALL, ALL)) <= 2 * (KEPT + 9)

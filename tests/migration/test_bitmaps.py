"""Dirty bitmaps go along while guests write: the destination ends with the marks of the source."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.block.bitmaps import DirtyBitmap
from qmon.migration.destination.bitmaps import take
from qmon.migration.source.bitmaps import MovingBitmaps
from qmon.migration.wire.bitmaps import PART, BitmapOffer
from qmon.migration.wire.reader import StreamReader
from qmon.migration.wire.stream import PREAMBLE, Kind, Record, section_start
from qmon.migration.wire.writer import RecordWriter

GRAIN = 512
CHUNKS = PART + 5000
SIZE = CHUNKS * GRAIN - 100


class Line:
    """An outlet whose other end takes marks."""

    is_wanted = False

    def __init__(self, there: list[DirtyBitmap]) -> None:
        self.writer = RecordWriter()
        self._reader = StreamReader()
        self._there = there
        self.writer.raw(PREAMBLE + section_start())

    def allowance(self) -> int:
        return 1000

    def send(self) -> None:
        sent = b"".join(self.writer.buffers)
        self.writer.clear()
        while sent:
            room = self._reader.room()
            count = min(len(room), len(sent))
            room[:count] = sent[:count]
            self._reader.filled(count)
            sent = sent[count:]
            for item in self._reader.items():
                if isinstance(item, Record) and item.kind is Kind.BITMAP:
                    take(item, self._there)

    push = send

    def pulse(self) -> None:
        pass


def bitmap() -> DirtyBitmap:
    return DirtyBitmap("b", SIZE, GRAIN)


def marks(of: DirtyBitmap) -> list[tuple[int, int, bool]]:
    return list(of.runs(0, SIZE))


writes = st.one_of(
    st.tuples(st.integers(0, SIZE - 1), st.integers(0, 3 * GRAIN), st.just(1)),
    st.tuples(st.integers(0, SIZE - 1), st.integers(1, SIZE), st.just(1)),
    st.tuples(st.integers(0, SIZE // 2), st.just(1), st.integers(1, 5000)),  # every second chunk
)
"""An offset, a length, and how many of them."""
steps = st.lists(st.one_of(st.just("send"), st.just("break"), writes), max_size=12)


@given(steps)
def test_the_destination_has_all_marks_whenever_all_are_sent(todo: list[str | tuple[int, int, int]]) -> None:
    here = [bitmap(), bitmap()]
    moving = MovingBitmaps([(each, BitmapOffer("d0", "b", GRAIN, True, False)) for each in here])
    there = [bitmap(), bitmap()]
    line = Line(there)
    moving.begin()
    number = 0
    for step in [*todo, "send"]:
        if step == "break":  # the next line begins anew
            there = [bitmap(), bitmap()]
            line = Line(there)
            moving.begin()
        elif isinstance(step, str):
            moving.send(line)
            line.send()
            assert [marks(each) for each in there] == [marks(each) for each in here]
            assert (moving.unsent_bytes, moving.seconds) == (0, 0)
        else:
            offset, length, times = step
            for each in range(times):
                here[number].mark(offset + each * 2 * GRAIN, length)
            number = 1 - number
    assert [each.count for each in there] == [each.count for each in here]
    moving.end()


def test_few_new_marks_take_few_bytes() -> None:
    """While guests wait only these are sent, not the bitmap."""
    here, there = bitmap(), bitmap()
    for chunk in range(0, CHUNKS, 2):
        here.mark(chunk * GRAIN, 1)
    moving = MovingBitmaps([(here, BitmapOffer("d0", "b", GRAIN, True, False))])
    line = Line([there])
    moving.begin()
    moving.send(line)
    line.send()
    here.mark(GRAIN, 1)
    here.mark((CHUNKS - 2) * GRAIN, 1)  # it has that mark
    assert moving.unsent_bytes > 0
    moving.send(line)
    assert line.writer.size < 100
    line.send()
    assert marks(there) == marks(here)

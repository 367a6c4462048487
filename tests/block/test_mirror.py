"""Each change reaches both places or is marked, beside a copy, with a slow line and a gate that closes."""

from __future__ import annotations

import errno
import random
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.dirty import DirtyMap
from qmon.block.gate import Gate
from qmon.block.mirror import Change, Mirror, MirrorFilter
from qmon.block.node import Buffer
from qmon.block.together import begin
from tests.support.memory import SECTOR, MemoryNode
from tests.support.waiting import PATIENCE

CHUNK = 4096
CHUNKS = 6
SIZE = CHUNKS * CHUNK
STEPS = ("take", "read", "drain", "apply", "close", "fail")


class Parcel:
    """A Delivery whose wait lets the copy go on, as the script says."""

    def __init__(self, copy: Copy, changes: Sequence[Change]) -> None:
        self.changes = changes
        self.position: int | None = None
        """Where its end is in the stream, once it is there."""
        self.told = threading.Event()
        self._copy = copy

    @property
    def is_over(self) -> bool:
        return self.has_arrived or (self.position is None and self not in self._copy.queue)

    @property
    def has_arrived(self) -> bool:
        return self.position is not None and self.position <= self._copy.applied

    def withdraw(self) -> bool:
        if self in self._copy.queue:
            self._copy.queue.remove(self)
        return self.position is None


class ScriptedGate(Gate):
    """A gate inside which the copy goes on, as the script says, while somebody waits."""

    def __init__(self, copy: Copy) -> None:
        super().__init__()
        self._copy = copy

    def wait_closing(self, timeout: float, woken: threading.Event | None = None) -> bool:
        while self._copy.script and not self.is_closed and not self._copy.has_last_arrived:
            self._copy.step(self._copy.script.pop())
        return self.is_closed


class Copy:
    """A copy of a disk that is played through, and guests that change the disk."""

    def __init__(self, script: list[str]) -> None:
        self.source = MemoryNode(SIZE)
        self.source.data[:] = random.Random(1).randbytes(SIZE)
        self.dirty = DirtyMap(SIZE, CHUNK, dirty=True)
        self.gate = ScriptedGate(self)
        self.script = script
        self._last: Parcel | None = None
        self.queue: list[Parcel] = []
        self.stream: list[tuple[int, bytes]] = []
        self.applied = 0
        self._taken: list[int] = []
        mirror = Mirror(self.dirty, self.gate, self._send)
        self.filter = MirrorFilter(self.source, mirror)

    def _send(self, changes: Sequence[Change]) -> Parcel:
        self._last = parcel = Parcel(self, changes)
        self.queue.append(parcel)
        return parcel

    @property
    def has_last_arrived(self) -> bool:
        return self._last is not None and self._last.has_arrived

    def write_at_once(self, offset: int, data: Buffer) -> bool:
        self.source.write(offset, data)
        return True

    def step(self, what: str) -> None:
        """Let the copy, or something else that happens meanwhile, take a step."""
        if what == "take" and not self._taken and (run := self.dirty.take(0, 2 * CHUNK)):
            self._taken = list(range(run[0], run[0] + run[1], CHUNK))
        elif what == "read" and self._taken:
            offset = self._taken.pop(0)
            self.stream.append((offset, bytes(self.source.data[offset : offset + CHUNK])))
        elif what == "drain":
            for parcel in self.queue:
                for each in parcel.changes:
                    self.stream.append((each.offset, each.data or bytes(each.length)))
                parcel.position = len(self.stream)
            self.queue.clear()
        elif what == "apply":
            self.applied = len(self.stream)
        elif what == "close":
            self.gate.close("test")
        elif what == "fail":
            self.queue.clear()

    def play(self, steps: Sequence[str]) -> None:
        for each in steps:
            self.step(each)
        self.gate.open("test")

    def missing(self) -> bool:
        """Whether the second place would lack something if the copy went on from here without guests."""
        there = bytearray(SIZE)
        for offset, data in self.stream:
            there[offset : offset + len(data)] = data
        for offset in range(0, SIZE, CHUNK):
            if offset in self._taken or self.dirty.is_marked(offset, CHUNK):
                there[offset : offset + CHUNK] = self.source.data[offset : offset + CHUNK]
        return there != self.source.data


sectors = st.integers(0, SIZE // SECTOR - 1)
counts = st.integers(1, 20)
changes = st.tuples(
    st.sampled_from(["write", "write", "write", "now", "zero", "discard", "odd"]), sectors, counts
)
steps = st.lists(st.sampled_from([*STEPS[:4], *STEPS]), max_size=12)
batches = st.lists(changes, min_size=1, max_size=5)
plots = st.lists(st.tuples(steps, batches, st.booleans(), st.booleans()), max_size=12)


def change(copy: Copy, kind: str, sector: int, count: int, fill: int) -> None:
    offset = sector * SECTOR
    length = min(count * SECTOR, SIZE - offset)
    data = bytes([fill]) * length
    match kind:
        case "write":
            copy.filter.write(offset, data)
        case "odd":
            copy.filter.write(offset + 1, data[: length - 2])
        case "now":
            copy.source.write_now = copy.write_at_once
            if not (now := copy.filter.write_now) or not now(offset, data):
                copy.filter.write(offset, data)
            copy.source.write_now = None
        case "zero":
            copy.filter.zero(offset, length)
        case "discard":
            copy.filter.discard(offset, length)


@given(plots, steps)
def test_nothing_is_lost_whatever_the_line_and_the_copy_do(
    plots: list[tuple[list[str], list[tuple[str, int, int]], bool, bool]], last: list[str]
) -> None:
    copy = Copy([])
    fill = 0
    for before, batch, are_together, fails in plots:
        copy.play(before)
        copy.script = [*before, *last]
        copy.source.failures = {"write": errno.EIO} if fails else {}
        if are_together and not fails:
            put_off = begin()
            for each in batch:
                fill = fill % 255 + 1
                change(copy, *each, fill)
            put_off.end()
        else:
            for each in batch:
                fill = fill % 255 + 1
                with suppress(OSError):
                    change(copy, *each, fill)
        assert not copy.missing()
        assert not copy.queue or not copy.queue[0].changes
        copy.gate.open("test")
    for _ in range(2 * CHUNKS):
        copy.play(["take", "read", "read", "drain", "apply"])
    assert not copy.dirty.dirty_bytes
    assert not copy.missing()


@given(st.lists(st.tuples(sectors, counts), max_size=30))
def test_nothing_becomes_dirty_while_the_line_keeps_up(writes: list[tuple[int, int]]) -> None:
    copy = Copy([])
    copy.play(["take", "read", "read"] * CHUNKS)
    assert not copy.dirty.dirty_bytes
    for sector, count in writes:
        copy.script = ["apply", "drain"]
        change(copy, "write", sector, count, 7)
        assert copy.applied == len(copy.stream)
    assert not copy.dirty.dirty_bytes
    assert not copy.missing()


def test_a_slow_line_is_waited_for_once() -> None:
    copy = Copy([])
    copy.play(["take", "read", "read"] * CHUNKS)
    change(copy, "write", 0, 1, 1)  # nobody drains
    change(copy, "write", 16, 1, 2)
    assert copy.dirty.is_marked(0, 1)
    assert copy.dirty.is_marked(16 * SECTOR, 1)
    assert [list(parcel.changes) for parcel in copy.queue] == [[]]
    copy.play(["drain", "apply"])
    copy.script = ["apply", "drain"]
    change(copy, "write", 32, 1, 3)
    assert not copy.dirty.is_marked(32 * SECTOR, 1)


class Line:
    """A line with threads: one that copies and sends, and guests that wait for it."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.source = MemoryNode(SIZE)
        self.there = bytearray(SIZE)
        self.dirty = DirtyMap(SIZE, CHUNK, dirty=True)
        self.gate = Gate()
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._queue: list[Errand] = []
        mirror = Mirror(self.dirty, self.gate, self.send, patience=0.002)
        self.filter = MirrorFilter(self.source, mirror)

    def send(self, changes: Sequence[Change]) -> Errand:
        errand = Errand(self._lock, changes)
        with self._lock:
            self._queue.append(errand)
        return errand

    def drain(self) -> None:
        with self._lock:
            errands, self._queue = self._queue, []
            for errand in errands:
                errand.is_taken = not errand.is_withdrawn
                if errand.is_taken:
                    self._apply(errand.changes)
        if self.chance.random() < 0.1:
            time.sleep(0.004)
        for errand in errands:
            errand.has_arrived = errand.is_taken
            errand.told.set()

    def _apply(self, changes: Sequence[Change]) -> None:
        for each in changes:
            self.there[each.offset : each.offset + each.length] = each.data or bytes(each.length)

    def copy(self) -> None:
        """The migration's thread."""
        while not self.stopped.is_set():
            self.drain()
            for offset, length in self.taken():
                data = bytes(self.source.data[offset : offset + length])
                if self.chance.random() < 0.3:
                    time.sleep(0.0005)
                self.there[offset : offset + length] = data
                self.drain()

    def taken(self) -> Iterator[tuple[int, int]]:
        while run := self.dirty.take(0, CHUNK):
            yield run


class Errand:
    """A Delivery of a Line."""

    def __init__(self, lock: threading.Lock, changes: Sequence[Change]) -> None:
        self.changes = changes
        self.told = threading.Event()
        self.has_arrived = False
        self.is_taken = self.is_withdrawn = False
        self._lock = lock

    @property
    def is_over(self) -> bool:
        return self.has_arrived

    def withdraw(self) -> bool:
        with self._lock:
            self.is_withdrawn = not self.is_taken
            return self.is_withdrawn


@pytest.mark.parametrize("seed", range(4))
def test_guests_that_write_over_each_other_leave_both_places_equal(seed: int) -> None:
    line = Line(seed)

    def guest(number: int) -> None:
        chance = random.Random(seed * 10 + number)
        for _ in range(60):
            with line.gate:
                put_off = begin()
                for _ in range(chance.randint(1, 4)):
                    offset = chance.randrange(SIZE // SECTOR - 8) * SECTOR
                    line.filter.write(offset, chance.randbytes(chance.randint(1, 8) * SECTOR))
                if chance.random() < 0.1:
                    line.filter.discard(offset, CHUNK)
                put_off.end()

    guests = [threading.Thread(target=guest, args=(number,)) for number in range(5)]
    copying = threading.Thread(target=line.copy)
    for thread in (copying, *guests):
        thread.start()
    for _ in range(5):
        time.sleep(0.01)
        assert line.gate.close("test", PATIENCE)
        line.gate.open("test")
    for thread in guests:
        thread.join()
    line.stopped.set()
    copying.join()
    line.drain()
    for offset, length in line.taken():
        line.there[offset : offset + length] = line.source.data[offset : offset + length]
    assert line.there == line.source.data

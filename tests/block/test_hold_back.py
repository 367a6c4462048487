"""What guests write is held back to a rate: fairly, within bounds, and not when the gate is to be closed."""

from __future__ import annotations

import threading

from hypothesis import given
from hypothesis import strategies as st

from qmon.block.gate import Gate
from qmon.block.hold_back import LEAST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Allowance, HoldBackFilter
from tests.support.memory import MemoryNode
from tests.support.waiting import PATIENCE, eventually

MIB = 1 << 20
rates = st.floats(1e3, 1e9)
lengths = st.lists(st.integers(1, 8192), min_size=1, max_size=200)


class Clock:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@given(rates, lengths)
def test_one_writer_keeps_to_the_rate_and_may_use_it(rate: float, lengths: list[int]) -> None:
    clock = Clock()
    allowance = Allowance(clock)
    allowance.allow(rate)
    waited_longest = False
    for length in lengths:
        waits = allowance.take(length)
        assert 0 <= waits <= LONGEST_PAUSE_SECONDS + 1e-6
        waited_longest |= length / rate > LONGEST_PAUSE_SECONDS
        clock.now += waits
    needed = sum(lengths[:-1]) / rate
    assert clock.now <= needed + 1e-6
    assert waited_longest or clock.now >= needed - LEAST_PAUSE_SECONDS - 1e-6


@given(st.integers(2, 8), st.integers(10, 50))
def test_writers_of_one_disk_have_equal_shares(writers: int, rounds: int) -> None:
    clock = Clock()
    allowance = Allowance(clock)
    allowance.allow(MIB)
    due = [0.0] * writers
    done = [0] * writers
    for _ in range(writers * rounds):
        clock.now, writer = min((when, index) for index, when in enumerate(due))
        due[writer] = clock.now + max(allowance.take(4096 * 8), 1e-6)
        done[writer] += 1
    assert max(done) - min(done) <= 2


def test_without_a_rate_nothing_waits() -> None:
    allowance = Allowance()
    assert [allowance.take(MIB) for _ in range(3)] == [0, 0, 0]
    allowance.allow(1)
    allowance.take(MIB)
    assert allowance.take(MIB) > 0
    allowance.allow(0)
    assert allowance.take(MIB) == 0


def test_what_waits_goes_on_when_the_gate_closes() -> None:
    gate, node, allowance = Gate(), MemoryNode(MIB), Allowance()
    allowance.allow(1)
    held = HoldBackFilter(node, allowance, gate, lambda offset, length: length)

    def write() -> None:
        with gate:
            for _ in range(20):
                held.write(0, b"x" * 512)

    writer = threading.Thread(target=write)
    writer.start()
    eventually(lambda: node.calls["write"], "the first one is done, so that the gate closes behind it")
    assert gate.close("test", PATIENCE)
    writer.join()
    assert node.data[:512] == b"x" * 512


def test_a_loop_that_must_not_wait_reads_and_leaves_writes_to_others() -> None:
    allowance = Allowance()
    held = HoldBackFilter(MemoryNode(MIB), allowance, Gate(), lambda offset, length: length)
    assert held.write_now is None
    assert held.read_now == held.child.read_now

"""Injected faults: exactly the requests that a rule means meet it, and one that fails has changed nothing."""

from __future__ import annotations

import errno
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.faults import FaultFilter, Faults, Operation, Rule
from tests.support.memory import MemoryNode
from tests.support.waiting import PATIENCE

SIZE = 64 << 10


def disk(*rules: Rule) -> FaultFilter:
    faults = Faults()
    for number, rule in enumerate(rules):
        faults.add(str(number), rule)
    return FaultFilter(MemoryNode(SIZE), faults)


def ask(node: FaultFilter, operation: Operation, offset: int, length: int) -> int:
    """Make a request; return the errno with which it failed, 0 when it did not."""
    try:
        match operation:
            case Operation.READ:
                node.read_into(offset, memoryview(bytearray(length)))
            case Operation.WRITE:
                node.write(offset, b"\xa5" * length)
            case Operation.ZERO:
                node.zero(offset, length)
            case Operation.DISCARD:
                node.discard(offset, length)
            case Operation.FLUSH:
                node.flush()
    except OSError as error:
        return error.errno or -1
    return 0


operations = st.sampled_from(Operation)
places = st.integers(0, 40)
lengths = st.integers(1, 20)
rules = st.builds(
    Rule,
    operations,
    places,
    st.none() | lengths,
    st.sampled_from([errno.EIO, errno.ENOSPC]),
    st.just(0.0),
    st.integers(0, 3),
    st.integers(0, 3),
)


@given(rules, st.lists(st.tuples(operations, places, lengths)))
def test_the_requests_that_a_rule_means_fail_and_no_others(
    rule: Rule, requests: list[tuple[Operation, int, int]]
) -> None:
    node = disk(rule)
    meant = 0
    end = SIZE if rule.length is None else rule.offset + rule.length
    for operation, offset, length in requests:
        touches = set(range(offset, offset + length)) & set(range(rule.offset, end))
        wanted = 0
        if operation is rule.operation and (touches or operation is Operation.FLUSH):
            meant += 1
            hit = meant > rule.after and (not rule.count or meant <= rule.after + rule.count)
            wanted = rule.errno or 0 if hit else 0
        assert ask(node, operation, offset, length) == wanted


@pytest.mark.parametrize("operation", [Operation.WRITE, Operation.ZERO, Operation.DISCARD])
def test_what_fails_has_changed_nothing_and_what_comes_next_goes_on(operation: Operation) -> None:
    node = disk(Rule(operation, 4096, 512, errno.EIO, count=1))
    node.child.write(0, b"\x11" * SIZE)
    before = bytearray(512)
    assert ask(node, operation, 4096, 512) == errno.EIO
    node.read_into(4096, memoryview(before))
    assert before == b"\x11" * 512
    assert ask(node, operation, 4096, 512) == 0
    node.read_into(4096, memoryview(before))
    assert before == (b"\xa5" if operation is Operation.WRITE else b"\0") * 512


def test_the_first_of_several_rules_that_fails_a_request_names_the_error() -> None:
    node = disk(
        Rule(Operation.WRITE, 0, 512, errno.ENOSPC, count=1), Rule(Operation.WRITE, 0, None, errno.EIO)
    )
    assert [ask(node, Operation.WRITE, 0, 512) for _ in range(2)] == [errno.ENOSPC, errno.EIO]


def test_a_delay_holds_its_own_requests_only_and_ends_when_its_rule_does() -> None:
    faults = Faults()
    faults.add("slow", Rule(Operation.READ, delay_seconds=60, errno=errno.EIO))
    node = FaultFilter(MemoryNode(SIZE), faults)
    errors: list[int] = []
    reader = threading.Thread(target=lambda: errors.append(ask(node, Operation.READ, 0, 512)))
    reader.start()
    assert ask(node, Operation.WRITE, 0, 512) == 0
    deadline = time.monotonic() + PATIENCE
    while not faults.hits()["slow"][1] and time.monotonic() < deadline:
        time.sleep(0.001)
    assert reader.is_alive()
    faults.remove("slow")
    reader.join(PATIENCE)
    assert errors == [errno.EIO]
    assert ask(node, Operation.READ, 0, 512) == 0


def test_a_delay_without_an_error_delays() -> None:
    node = disk(Rule(Operation.FLUSH, delay_seconds=0.05))
    begun = time.monotonic()
    assert ask(node, Operation.FLUSH, 0, 0) == 0
    assert time.monotonic() - begun >= 0.05


def test_of_many_threads_as_many_fail_as_were_to() -> None:
    node = disk(Rule(Operation.WRITE, 0, None, errno.EIO, count=100, after=50))
    failed: list[int] = []

    def write() -> None:
        failed.extend(filter(None, (ask(node, Operation.WRITE, 0, 512) for _ in range(100))))

    threads = [threading.Thread(target=write) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == [errno.EIO] * 100

"""A gate: what is inside finishes, what comes later waits, and who is turned away knows why."""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.gate import Gate, GateShutError, WaiterGoneError
from tests.support.waiting import PATIENCE


class Visitor:
    """A thread that enters a gate; ``outcome`` is how that went, None while it waits."""

    def __init__(self, gate: Gate, gone: Callable[[], bool] | None = None) -> None:
        self._gate, self._gone = gate, gone
        self.outcome: str | None = None
        self._may_leave = threading.Event()
        self._settled = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._gate.enter(self._gone)
        except OSError as error:
            self.outcome = type(error).__name__
            self._settled.set()
            return
        self.outcome = "inside"
        self._settled.set()
        self._may_leave.wait(PATIENCE)
        self._gate.leave()

    def settle(self, timeout: float = PATIENCE) -> str | None:
        self._settled.wait(timeout)
        return self.outcome

    def leave(self) -> None:
        self._may_leave.set()
        self._thread.join(PATIENCE)
        assert not self._thread.is_alive()


def test_a_closed_gate_lets_nobody_in_until_it_is_opened() -> None:
    gate = Gate()
    assert gate.close("stopped", 0)
    assert not gate.is_open
    visitor = Visitor(gate)
    assert visitor.settle(0.05) is None
    gate.open("stopped")
    assert visitor.settle() == "inside"
    visitor.leave()


def test_closing_waits_for_those_inside_and_keeps_out_those_who_come_meanwhile() -> None:
    gate = Gate()
    early = [Visitor(gate) for _ in range(3)]
    assert [each.settle() for each in early] == ["inside"] * 3
    drained = threading.Event()

    def close() -> None:
        gate.close("stopped")
        drained.set()

    closer = threading.Thread(target=close, daemon=True)
    closer.start()
    while gate.is_open:
        time.sleep(0.001)
    late = Visitor(gate)
    for each in early:
        assert not drained.wait(0.02)
        each.leave()
    assert drained.wait(PATIENCE)
    assert late.settle(0.05) is None
    gate.open("stopped")
    assert late.settle() == "inside"
    late.leave()
    closer.join(PATIENCE)


def test_a_gate_that_does_not_drain_in_time_opens_again_for_those_who_wait() -> None:
    gate = Gate()
    inside = Visitor(gate)
    inside.settle()
    waiting: list[Visitor] = []
    starter = threading.Timer(0.02, lambda: waiting.append(Visitor(gate)))
    starter.start()
    assert gate.close("migration", 0.1) is False
    starter.join()
    assert gate.is_open
    assert waiting[0].settle() == "inside"
    waiting[0].leave()
    inside.leave()
    assert gate.close("migration", 0)


def test_a_failed_close_takes_back_its_own_reason_only() -> None:
    gate = Gate()
    inside = Visitor(gate)
    inside.settle()
    stopper = threading.Thread(target=gate.close, args=("stopped",), daemon=True)
    stopper.start()
    while gate.is_open:
        time.sleep(0.001)
    assert gate.close("migration", 0.02) is False
    assert not gate.is_open
    inside.leave()
    stopper.join(PATIENCE)
    gate.open("stopped")
    assert gate.is_open


names = st.sampled_from(["stopped", "migration", "resize"])


@given(st.lists(st.tuples(st.sampled_from(["close", "open", "shut", "reopen"]), names)))
def test_it_is_open_while_nobody_has_a_reason(todo: list[tuple[str, str]]) -> None:
    gate, reasons, shut = Gate(), set[str](), False
    for call, name in todo:
        match call:
            case "close":
                assert gate.close(name, 0)
                reasons.add(name)
            case "open":
                gate.open(name)
                reasons.discard(name)
            case "shut":
                gate.shut()
                shut = True
            case _:
                gate.reopen()
                shut = False
        assert gate.is_open == (not reasons and not shut)
        assert gate.is_shut == shut


def test_who_waits_when_it_is_shut_is_turned_away_and_so_is_who_comes_later() -> None:
    gate = Gate()
    gate.close("migration", 0)
    waiting = [Visitor(gate) for _ in range(3)]
    assert waiting[0].settle(0.05) is None
    gate.shut()
    assert [each.settle() for each in waiting] == ["GateShutError"] * 3
    with pytest.raises(GateShutError) as caught:
        gate.enter()
    assert caught.value.errno == errno.ESHUTDOWN
    gate.open("migration")
    with pytest.raises(GateShutError), gate:
        raise AssertionError("let in")
    gate.reopen()
    with gate:
        pass
    assert gate.close("again", 0), "somebody who was turned away counts as inside"


def test_those_inside_when_it_is_shut_finish() -> None:
    gate = Gate()
    inside = Visitor(gate)
    inside.settle()
    gate.shut()
    assert gate.close("migration", 0.02) is False
    inside.leave()
    assert gate.close("migration", 0)


def test_a_request_that_nobody_wants_any_more_does_not_wait() -> None:
    gate = Gate()
    gate.close("stopped", 0)
    hung_up = threading.Event()
    visitor = Visitor(gate, hung_up.is_set)
    assert visitor.settle(0.2) is None
    hung_up.set()
    assert visitor.settle() == "WaiterGoneError"
    gate.open("stopped")
    assert gate.close("again", 0), "somebody who has gone counts as inside"
    assert WaiterGoneError().errno == errno.ECONNABORTED


def test_at_an_open_gate_nobody_is_asked_whether_he_has_gone() -> None:
    gate = Gate()
    gate.enter(lambda: True)
    gate.leave()


def test_a_failure_inside_leaves_the_gate() -> None:
    gate = Gate()
    with pytest.raises(ZeroDivisionError), gate:
        _ = 1 // 0
    assert gate.close("stopped", 0)


def test_nobody_is_inside_a_drained_gate_however_many_try() -> None:
    """Under traffic on several threads, what closes it finds the drive at rest."""
    gate = Gate()
    inside = [0] * 4
    ended = threading.Event()

    def traffic(number: int) -> None:
        while not ended.is_set():
            with gate:
                inside[number] += 1
                inside[number] -= 1

    threads = [threading.Thread(target=traffic, args=(number,), daemon=True) for number in range(len(inside))]
    for thread in threads:
        thread.start()
    try:
        for _ in range(100):
            assert gate.close("check", PATIENCE)
            assert inside == [0] * len(inside)
            gate.open("check")
    finally:
        ended.set()
        gate.open("check")
        for thread in threads:
            thread.join(PATIENCE)


def test_a_wait_inside_is_one_of_a_guests_request() -> None:
    gate = Gate()
    with gate:
        assert not gate.wait_closing(0.02)
    assert gate.take_longest_ns() >= 20_000_000
    assert gate.take_longest_ns() == 0

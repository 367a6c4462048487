"""A limit is divided among the data connections: the sum holds, and nothing that could be used lies idle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.units import MIB
from qmon.remote.migration.bandwidth import Bandwidth


def run(bandwidth: Bandwidth, wishes: dict[str, float], seconds: int, begun: float = 0) -> dict[str, float]:
    """Let connections send as much as they wish and may; return the mean rates of the last ten divisions."""
    sent = dict.fromkeys(wishes, 0)
    rounds = seconds * 2
    counted = dict.fromkeys(wishes, 0)
    for number in range(rounds):
        if number == rounds - 10:
            counted = dict(sent)
        shares = bandwidth.divide(begun + number / 2, sent)
        for name, wish in wishes.items():
            sent[name] += int(min(wish, shares[name] or wish) / 2)
    return {name: (sent[name] - counted[name]) / 5 for name in wishes}


def test_equal_wishes_get_equal_shares() -> None:
    assert Bandwidth(12 * MIB).divide(0, {"a": 0, "b": 0, "memory": 0}) == dict.fromkeys(
        ["a", "b", "memory"], 4 * MIB
    )


def test_what_one_does_not_use_goes_to_the_others() -> None:
    got = run(Bandwidth(12 * MIB), {"a": MIB, "b": 100 * MIB}, 20)
    assert got["a"] >= 0.95 * MIB
    assert got["b"] >= 10 * MIB


def test_one_that_was_idle_gets_its_share_back_within_two_seconds() -> None:
    bandwidth = Bandwidth(12 * MIB)
    run(bandwidth, {"a": 0, "b": 100 * MIB}, 20)
    sent = {"a": 0, "b": 0}
    for number in range(4):
        shares = bandwidth.divide(100 + number / 2, sent)
        sent = {name: sent[name] + shares[name] // 2 for name in sent}
    assert bandwidth.divide(102, sent) == {"a": 6 * MIB, "b": 6 * MIB}


def test_a_new_limit_and_a_new_connection_count_at_once() -> None:
    bandwidth = Bandwidth(12 * MIB)
    bandwidth.divide(0, {"a": 0})
    assert bandwidth.divide(0.01, {"a": 0, "memory": 0}) == {"a": 6 * MIB, "memory": 6 * MIB}
    bandwidth.limit = 0
    assert bandwidth.divide(0.02, {"a": 0, "memory": 0}) == {"a": 0, "memory": 0}


@given(
    limit=st.integers(1000, 1 << 34),
    wishes=st.lists(st.floats(0, 1 << 34), min_size=1, max_size=5),
)
def test_the_sum_never_exceeds_the_limit_and_the_limit_is_used(limit: int, wishes: list[float]) -> None:
    got = run(Bandwidth(limit), {str(number): wish for number, wish in enumerate(wishes)}, 30)
    assert sum(got.values()) <= limit
    assert sum(got.values()) >= min(limit, sum(wishes)) * 0.75 - 10

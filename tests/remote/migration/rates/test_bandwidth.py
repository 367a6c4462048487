"""A limit is divided among the data connections: the sum holds, and nothing that could be used lies idle."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.units import MIB
from qmon.remote.migration.rates.bandwidth import Bandwidth, Load

NONE = Load(0, 0.0)


class Lines:
    """Connections that send as much as they wish and may."""

    def __init__(self, bandwidth: Bandwidth) -> None:
        self.bandwidth = bandwidth
        self.at = 0.0
        self.loads: dict[str, Load] = {}

    def run(self, wishes: dict[str, float], seconds: float) -> dict[str, float]:
        """Let some seconds pass; return the mean rates of the last five."""
        before = {name: self.loads.setdefault(name, NONE) for name in wishes}
        end = self.at + seconds
        while self.at < end:
            if end - self.at >= 5:
                before = dict(self.loads)
            shares = self.bandwidth.divide(self.at, self.loads)
            for name, wish in wishes.items():
                may = shares[name] or wish
                busy = min(wish / may, 1.0) if may else 0.0
                load = self.loads[name]
                self.loads[name] = Load(load.sent + int(min(wish, may) / 2), load.busy + busy / 2)
            self.at += 0.5
        return {name: (self.loads[name].sent - before[name].sent) / 5 for name in wishes}


def test_equal_wishes_get_equal_shares() -> None:
    names = ["a", "b", "memory"]
    assert Bandwidth(12 * MIB).divide(0, dict.fromkeys(names, NONE)) == dict.fromkeys(names, 4 * MIB)


def test_what_one_does_not_use_goes_to_the_others() -> None:
    got = Lines(Bandwidth(12 * MIB)).run({"a": MIB, "b": 100 * MIB}, 20)
    assert got["a"] >= 0.95 * MIB
    assert got["b"] >= 10 * MIB


def test_one_that_was_idle_gets_its_share_back_within_two_seconds() -> None:
    lines = Lines(Bandwidth(12 * MIB))
    lines.run({"a": 0, "b": 100 * MIB}, 20)
    lines.run({"a": 100 * MIB, "b": 100 * MIB}, 2)
    assert lines.bandwidth.divide(lines.at, lines.loads) == {"a": 6 * MIB, "b": 6 * MIB}


def test_a_busy_connection_keeps_its_share_although_nothing_was_confirmed_yet() -> None:
    bandwidth = Bandwidth(12 * MIB)
    bandwidth.divide(0, {"a": NONE, "b": NONE})
    assert bandwidth.divide(1, {"a": Load(0, 1.0), "b": Load(0, 1.0)}) == {"a": 6 * MIB, "b": 6 * MIB}


def test_a_new_limit_and_a_new_connection_count_at_once() -> None:
    bandwidth = Bandwidth(12 * MIB)
    bandwidth.divide(0, {"a": NONE})
    both = {"a": NONE, "memory": NONE}
    assert bandwidth.divide(0.01, both) == {"a": 6 * MIB, "memory": 6 * MIB}
    bandwidth.limit = 0
    assert bandwidth.divide(0.02, both) == {"a": 0, "memory": 0}


@given(
    limit=st.integers(1000, 1 << 34),
    wishes=st.lists(st.floats(0, 1 << 34), min_size=1, max_size=5),
)
def test_the_sum_never_exceeds_the_limit_and_the_limit_is_used(limit: int, wishes: list[float]) -> None:
    got = Lines(Bandwidth(limit)).run({str(number): wish for number, wish in enumerate(wishes)}, 30)
    assert sum(got.values()) <= limit
    assert sum(got.values()) >= min(limit, sum(wishes)) * 0.75 - 10

"""The memory's convergence, and its part of the downtime limit."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.units import MIB
from qmon.remote.migration.rates.convergence import Limits
from qmon.remote.migration.rates.memory import MemoryDowntime, judge_memory
from qmon.remote.migration.rates.pace import Pace


def sent_memory(*, rate: int, dirty: int, left: int, rounds: int = 5) -> Pace:
    """Return the pace of 20 seconds of memory that is sent."""
    pace = Pace({}, memory=512 * MIB)
    for second in range(20):
        ram: dict[str, Any] = {"transferred": second * rate, "remaining": left, "total": 512 * MIB}
        ram |= {"dirty-pages-rate": dirty // 4096, "page-size": 4096, "dirty-sync-count": rounds}
        pace.note(second, [], {"status": "active", "ram": ram})
    return pace


def test_memory_that_gains_needs_no_advice() -> None:
    pace = sent_memory(rate=100 * MIB, dirty=10 * MIB, left=100 * MIB)
    assert judge_memory(pace, Limits(0, 300)) is None


def test_the_first_round_is_not_judged() -> None:
    pace = sent_memory(rate=10 * MIB, dirty=100 * MIB, left=100 * MIB, rounds=1)
    assert judge_memory(pace, Limits(0, 300)) is None


def test_a_limit_that_holds_the_memory_back_is_advised_to_be_raised() -> None:
    pace = sent_memory(rate=30 * MIB, dirty=40 * MIB, left=100 * MIB)
    advice = judge_memory(pace, Limits(32 * MIB, 300))
    assert advice is not None
    assert (advice.parameter, advice.value) == ("max-bandwidth", 60 * MIB)


def test_else_the_downtime_is_advised_that_the_rest_takes() -> None:
    pace = sent_memory(rate=100 * MIB, dirty=120 * MIB, left=100 * MIB)
    advice = judge_memory(pace, Limits(0, 300))
    assert advice is not None
    assert (advice.parameter, advice.value) == ("downtime-limit", 1500)


def test_what_is_left_on_the_disks_takes_its_part_of_the_downtime() -> None:
    downtime = MemoryDowntime(300)
    assert downtime.value(0.0) is None
    assert downtime.value(0.1) == 200
    assert downtime.is_changed
    assert downtime.value(0.105) is None
    assert downtime.value(10.0) == 30
    assert downtime.value(0.0) == 300
    assert not downtime.is_changed


def test_a_new_limit_is_set_at_once() -> None:
    downtime = MemoryDowntime(300)
    downtime.limit_ms = 1000
    assert downtime.value(0.0) == 1000


@given(st.integers(0, 2_000_000), st.lists(st.floats(0, 10) | st.just(float("inf")), max_size=20))
def test_the_values_are_ones_that_qemu_takes(limit: int, left: list[float]) -> None:
    downtime = MemoryDowntime(limit)
    for seconds in left:
        value = downtime.value(seconds)
        assert value is None or 0 <= value <= max(limit, 1)

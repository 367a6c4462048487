"""How long a copy takes follows from the rates; one that guests outrun has no end."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.source.forecast import cure, forecast
from qmon.migration.source.gain import Limits
from qmon.notation.units import GIB, MIB

rates = st.floats(1e3, 1e10)


def test_without_guests_it_takes_the_time_of_the_line() -> None:
    found = forecast(1000 * MIB, 10 * MIB, 0, 0.3)
    assert found is not None
    assert (found.seconds, found.downtime) == (100, 0)


def test_nothing_to_send_takes_no_time() -> None:
    found = forecast(0, 0, 1e9, 0.3)
    assert found is not None
    assert (found.seconds, found.downtime) == (0, 0)


def test_a_line_that_carries_nothing_ends_nothing() -> None:
    assert forecast(1, 0, 0, 0.3) is None


def test_guests_that_outrun_the_line_are_not_caught() -> None:
    assert forecast(1000 * MIB, 10 * MIB, 30 * MIB, 0.3) is None


@given(st.floats(1e4, 1e15), rates, st.floats(0, 0.9), st.floats(0.001, 100))
def test_guests_make_it_longer_within_the_sum_of_all_rounds(
    size: float, rate: float, share: float, limit: float
) -> None:
    found = forecast(int(size), rate, rate * share, limit)
    assert found is not None
    assert int(size) / rate <= found.seconds <= int(size) / rate / (1 - share) * 1.001
    assert 0 <= found.downtime <= limit


def test_a_limit_that_holds_the_line_back_is_to_be_raised() -> None:
    found = cure(GIB, 10 * MIB, {"d0": 30.0 * MIB}, Limits(10 * MIB, 300))
    assert found is not None
    assert found.parameter == "max-bandwidth"
    assert forecast(GIB, found.value, 30 * MIB, 0.3) is not None


def test_a_slow_line_needs_slower_guests() -> None:
    found = cure(GIB, 10 * MIB, {"d0": 5.0 * MIB, "d1": 30.0 * MIB}, Limits(0, 300))
    assert found is not None
    assert (found.parameter, found.drive) == ("bps_wr", "d1")
    assert forecast(GIB, 10 * MIB, 5 * MIB + found.value, 0.3) is not None


@given(st.integers(1, 1 << 50), rates, st.floats(0, 3), st.sampled_from([0, 10 * MIB]))
def test_there_is_a_cure_for_each_copy_without_end(size: int, rate: float, share: float, limit: int) -> None:
    found = cure(size, rate, {"d0": rate * share}, Limits(limit, 0))
    assert found is not None or forecast(size, rate, rate * share, 0) is not None

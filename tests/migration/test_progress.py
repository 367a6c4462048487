"""The sender keeps to its limit, and the figures are those of a clock that the test holds."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.progress import Progress, RateMeter, Throttle

MIB = 1 << 20


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def with_clock(clock: Clock) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("qmon.migration.progress.time", SimpleNamespace(monotonic=clock.monotonic))
        yield


@pytest.fixture
def clock() -> Iterator[Clock]:
    clock = Clock()
    for _ in with_clock(clock):
        yield clock


def wait(throttle: Throttle, clock: Clock, limit: int) -> float:
    """Wait as long as the throttle says; return how long that was."""
    begun = clock.now
    while delay := throttle.delay(limit):
        clock.now += max(delay, 1e-6)
    return clock.now - begun


sizes = st.integers(1, 2 * MIB)
idle = st.floats(0, 3)


class TestThrottle:
    @given(st.lists(st.tuples(sizes, idle), min_size=1, max_size=30), st.integers(1000, 1 << 32))
    def test_in_no_span_of_time_more_is_sent_than_the_limit_allows(
        self, todo: list[tuple[int, float]], limit: int
    ) -> None:
        """But for a short burst after a pause, and the batch that is just being sent."""
        clock = Clock()
        for _ in with_clock(clock):
            throttle = Throttle()
            sent: list[tuple[float, int]] = []
            for size, pause in todo:
                wait(throttle, clock, limit)
                sent.append((clock.now, size))
                throttle.note(size)
                clock.now += pause
        for first in range(len(sent)):
            for last in range(first, len(sent)):
                before = sum(size for _, size in sent[first:last])
                span = sent[last][0] - sent[first][0]
                assert before <= limit * (span + Throttle.BURST) * 1.001 + 1

    @given(st.lists(sizes, min_size=2, max_size=30), st.integers(1000, 1 << 32))
    def test_a_busy_sender_reaches_its_limit(self, todo: list[int], limit: int) -> None:
        clock = Clock()
        for _ in with_clock(clock):
            throttle = Throttle()
            begun = clock.now
            for size in todo:
                wait(throttle, clock, limit)
                throttle.note(size)
        assert clock.now - begun <= sum(todo[:-1]) / limit * 1.001 + 1e-4

    def test_without_a_limit_nobody_waits(self, clock: Clock) -> None:
        throttle = Throttle()
        for _ in range(100):
            assert throttle.delay(0) == 0
            throttle.note(1 << 40)

    def test_a_limit_that_is_lifted_or_raised_counts_at_once(self, clock: Clock) -> None:
        throttle = Throttle()
        throttle.note(MIB)
        assert throttle.delay(1) > 1_000_000
        assert throttle.delay(MIB) == pytest.approx(1, abs=0.01)
        assert throttle.delay(0) == 0
        assert throttle.delay(1) == 0, "what was sent without a limit is owed to a later one"

    def test_a_long_pause_saves_up_no_more_than_a_burst(self, clock: Clock) -> None:
        throttle = Throttle()
        clock.now += 3600
        assert throttle.delay(MIB) == 0
        throttle.note(MIB)
        assert throttle.delay(MIB) == pytest.approx(1 - Throttle.BURST)


class TestRateMeter:
    @given(st.integers(1000, 1 << 34), st.floats(0.011, 0.5))
    def test_a_steady_rate_is_measured(self, rate: int, step: float) -> None:
        clock = Clock()
        for _ in with_clock(clock):
            meter = RateMeter()
            begun = clock.now
            assert meter.add(0) == 0
            for _ in range(20):
                clock.now += step
                assert meter.add(int(rate * (clock.now - begun))) == pytest.approx(rate, rel=0.01, abs=200)

    def test_what_was_long_ago_does_not_count(self, clock: Clock) -> None:
        meter = RateMeter()
        total = 0
        for rate in (100 * MIB, MIB):
            for _ in range(40):
                clock.now += 0.1
                total += rate // 10
                measured = meter.add(total)
            assert measured == pytest.approx(rate, rel=0.05)

    def test_a_stall_is_seen(self, clock: Clock) -> None:
        meter = RateMeter()
        meter.add(0)
        clock.now += 1
        assert meter.add(MIB) == MIB
        clock.now += 100
        assert meter.add(MIB) < MIB / 50

    def test_too_short_a_time_says_nothing(self, clock: Clock) -> None:
        meter = RateMeter()
        meter.add(0)
        clock.now += RateMeter.SPACING / 2
        assert meter.add(MIB) == 0


def test_the_total_time_stops_at_the_end(clock: Clock) -> None:
    progress = Progress(started=clock.now)
    clock.now += 5
    assert progress.total_time == 5
    progress.ended = clock.now
    clock.now += 5
    assert progress.total_time == 5

"""Whether a copy gains on its guests' writes, judged on copies that are played through, and the advice."""

from __future__ import annotations

import random
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.source.course import Sample, rates
from qmon.migration.source.gain import Limits, judge
from qmon.notation.units import MIB

CHUNKS = 400
"""The disk, in chunks of one MiB."""

STEP = 0.2
WINDOW = 15.0
NO_LIMIT = Limits(0, 300)


def played(seconds: float, send: float, write: float, hot: int, seed: int) -> Iterator[Sample]:
    """A copy of a whole disk at ``send`` chunks a second, and a guest that writes to the first ``hot``."""
    chosen = random.Random(seed)
    dirty = [True] * CHUNKS
    passed = written = position = 0
    for step in range(int(seconds / STEP)):
        now = step * STEP
        while written < int(write * now):
            dirty[chosen.randrange(hot)] = True
            written += 1
        while passed < int(send * now) and any(dirty):
            while not dirty[position]:
                position = (position + 1) % CHUNKS
            dirty[position] = False
            passed += 1
        done = passed * MIB
        yield Sample(now, done, done, (written * MIB,), sum(dirty) * MIB)


def windows(samples: list[Sample]) -> Iterator[list[Sample]]:
    """The samples of each time of WINDOW seconds."""
    count = int(WINDOW / STEP)
    for end in range(count, len(samples)):
        yield samples[end - count : end + 1]


hot_parts = st.integers(CHUNKS // 10, CHUNKS)
seeds = st.integers(0, 1 << 16)


@given(st.floats(8, 40), st.floats(0, 0.7), hot_parts, seeds)
def test_a_copy_that_is_faster_than_the_guests_is_left_alone(
    send: float, share: float, hot: int, seed: int
) -> None:
    samples = list(played(60, send, send * share, hot, seed))
    shrinking = [each for each in samples if each.left > 20 * MIB]
    assert not any(judge(window, ["d0"], NO_LIMIT) for window in windows(shrinking))


@given(st.floats(8, 40), st.floats(1.5, 5), hot_parts, seeds)
def test_a_copy_that_guests_outrun_is_found_in_the_end(
    send: float, times: float, hot: int, seed: int
) -> None:
    samples = list(played(CHUNKS / send + 6 * WINDOW, send, send * times, hot, seed))
    *earlier, last = windows(samples)
    assert any(judge(window, ["d0"], NO_LIMIT) for window in earlier)
    stuck = judge(last, ["d0"], NO_LIMIT, was_stuck=True)
    assert stuck is not None
    assert stuck.write_rate == pytest.approx(send * times * MIB, rel=0.1)
    assert stuck.send_rate == pytest.approx(send * MIB, rel=0.1)


def course(send: float, *writes: float, left: int = 100, kept: float = 1.0) -> list[Sample]:
    """Ten seconds of a copy of which the guests make the share ``kept`` dirty again; rates in MiB."""
    return [
        Sample(
            now,
            round(send * now * MIB),
            round(send * now * MIB),
            tuple(round(write * now * MIB) for write in writes),
            round((left - send * now * (1 - kept)) * MIB),
        )
        for now in (0.0, 5.0, 10.0)
    ]


def test_a_limit_that_holds_the_copy_back_is_to_be_raised_above_what_guests_write() -> None:
    stuck = judge(course(10, 30), ["d0"], Limits(10 * MIB, 300))
    assert stuck is not None
    assert (stuck.parameter, stuck.value, stuck.drive) == ("max-bandwidth", 45 * MIB, None)
    assert stuck.reason == "guests write 30 MiB/s, 10 MiB/s are sent"


def test_a_rest_that_is_sent_in_a_moment_needs_a_longer_downtime() -> None:
    stuck = judge(course(10, 12, left=8), ["d0"], Limits(128 * MIB, 300))
    assert stuck is not None
    assert (stuck.parameter, stuck.value) == ("downtime-limit", 1200)
    assert stuck.reason == "guests write 12 MiB/s, the rest takes 800 ms"


@pytest.mark.parametrize(
    ("writes", "drive", "value"),
    [((30.0,), "d0", 20), ((2.0, 40.0), "d1", 18), ((20.0, 30.0), "d1", 10)],
)
def test_a_line_that_is_too_slow_leaves_the_guests_to_be_throttled(
    writes: tuple[float, ...], drive: str, value: int
) -> None:
    stuck = judge(course(30, *writes, left=400), ["d0", "d1"][: len(writes)], NO_LIMIT)
    assert stuck is not None
    assert (stuck.parameter, stuck.drive, stuck.value) == ("bps_wr", drive, value * MIB)
    assert stuck.reason.endswith(" MiB/s, the line takes 30 MiB/s")


def test_between_the_bounds_the_judgement_stays() -> None:
    gains_little = course(10, 30, kept=0.8)
    assert judge(gains_little, ["d0"], NO_LIMIT) is None
    assert judge(gains_little, ["d0"], NO_LIMIT, was_stuck=True) is not None


def test_zeros_that_guests_write_need_no_sending() -> None:
    assert judge(course(10, 0), ["d0"], NO_LIMIT) is None


@pytest.mark.parametrize(
    ("send", "write", "remaining_ms"), [(10, 0, 10_000), (10, 5, 20_000), (10, 9.9, None), (10, 30, None)]
)
def test_a_time_is_given_only_if_it_is_finite(send: float, write: float, remaining_ms: int | None) -> None:
    first, *_, last = course(send, write)
    found = rates(first, last, last.at)
    assert found is not None
    assert found.remaining_ms == (None if remaining_ms is None else pytest.approx(remaining_ms, rel=0.01))


def test_a_copy_that_stands_still_is_seen() -> None:
    first, *_, last = course(10, 5)
    found = rates(first, last, last.at + 90)
    assert found is not None
    assert found.send == pytest.approx(MIB, rel=0.01)


def test_the_advice_is_for_what_guests_write_now() -> None:
    """A writer of 12 MiB/s that began 5 seconds ago, on the second drive."""
    samples = [
        Sample(now, round(2 * now * MIB), round(2 * now * MIB), (round(now * MIB), written * MIB), 100 * MIB)
        for now, written in ((0.0, 0), (5.0, 0), (10.0, 0), (15.0, 60))
    ]
    stuck = judge(samples, ["d0", "d1"], Limits(2 * MIB, 300))
    assert stuck is not None
    assert stuck.reason == "guests write 13 MiB/s, 2 MiB/s are sent"
    assert (stuck.parameter, stuck.value) == ("max-bandwidth", 20 * MIB)
    throttled = judge(samples, ["d0", "d1"], NO_LIMIT)
    assert throttled is not None
    assert (throttled.parameter, throttled.drive) == ("bps_wr", "d1")


def test_after_a_changed_limit_guests_that_write_more_than_is_sent_are_found_at_once() -> None:
    gains = course(5, 6, kept=0.2)
    assert judge(gains, ["d0"], Limits(5 * MIB, 300), was_changed=True) is not None
    assert judge(gains, ["d0"], Limits(5 * MIB, 300)) is None
    assert judge(course(9, 6, kept=0.2), ["d0"], Limits(9 * MIB, 300), was_changed=True) is None

"""The checksums of regions: equal where the same was applied in the same order, and only there."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.migration.wire.chains import MAX_REGION, MAX_REGIONS, SEGMENT, Chains, DriveChains
from qmon.migration.wire.stream import REGION

REGIONS = 2 * SEGMENT + 5
SIZE = REGIONS * REGION

starts = st.one_of(st.integers(0, 40), st.integers(SEGMENT - 3, SEGMENT + 3), st.integers(0, REGIONS - 1))
insides = st.sampled_from([0, 512, REGION // 2, REGION - 512])
lengths = st.one_of(
    st.sampled_from([512, REGION // 2, REGION, REGION + 512]), st.integers(1, 4 * SEGMENT).map(REGION.__mul__)
)
records = st.lists(
    st.tuples(starts, insides, lengths).map(lambda each: cut(each[0] * REGION + each[1], each[2])),
    max_size=8,
)


def cut(offset: int, length: int) -> tuple[int, int]:
    return offset, min(length, SIZE - offset)


def touched(offset: int, length: int) -> set[int]:
    return set(range(offset // REGION, -(-(offset + length) // REGION)))


def numbered(ranges: list[tuple[int, int]]) -> list[tuple[int, int, int]]:
    return [(*each, number) for number, each in enumerate(ranges, 1 << 40)]


def after(applied: list[tuple[int, int, int]]) -> Chains:
    chains = Chains([SIZE])
    for record in applied:
        chains.add(0, *record)
    return chains


@settings(deadline=None)
@given(records)
def test_they_count_what_was_sent_and_the_regions_of_it(ranges: list[tuple[int, int]]) -> None:
    regions = set[int]().union(*(touched(*each) for each in ranges))
    assert after(numbered(ranges)).compared == (sum(length for _, length in ranges), len(regions))


@settings(deadline=None)
@given(records, st.data())
def test_a_record_that_is_missing_or_other_is_found_if_it_is_the_last_of_a_region(
    ranges: list[tuple[int, int]], choice: st.DataObject
) -> None:
    ranges.append(choice.draw(st.tuples(starts.map(REGION.__mul__), st.just(512))))
    whole = numbered(ranges)
    digest = after(whole).digest
    *others, (offset, length, checksum) = whole
    assert after(whole).digest == digest
    assert after(others).digest != digest
    assert after([*others, (offset, length, checksum + 1)]).digest != digest
    assert after([*whole, whole[-1]]).digest != digest


@settings(deadline=None)
@given(records)
def test_the_order_counts_within_a_region_and_nowhere_else(ranges: list[tuple[int, int]]) -> None:
    whole = numbered(ranges)
    for number in range(len(whole) - 1):
        first, second = whole[number], whole[number + 1]
        swapped = [*whole[:number], second, first, *whole[number + 2 :]]
        if not touched(*first[:2]) & touched(*second[:2]):
            assert after(swapped).digest == after(whole).digest
    base = [(0, REGION, 7)]
    assert (
        after([*base, (0, 512, 8), (512, 512, 9)]).digest != after([*base, (512, 512, 9), (0, 512, 8)]).digest
    )


@settings(deadline=None)
@given(records, records)
def test_what_was_added_last_can_be_taken_back(
    kept: list[tuple[int, int]], gone: list[tuple[int, int]]
) -> None:
    chains = after(numbered(kept))
    digest, compared = chains.digest, chains.compared
    before = [chains.add(0, offset, length, number) for number, (offset, length) in enumerate(gone, 5)]
    for (offset, length), values in zip(reversed(gone), reversed(before), strict=True):
        chains.undo(0, offset, length, values)
    assert (chains.digest, chains.compared) == (digest, compared)


def test_each_drive_has_its_own() -> None:
    one, other = Chains([SIZE, SIZE]), Chains([SIZE, SIZE])
    one.add(0, 0, 512, 1)
    other.add(1, 0, 512, 1)
    assert one.digest != other.digest


def test_a_large_drive_has_larger_regions() -> None:
    chains = DriveChains(64 << 40)
    assert DriveChains(4 << 40).region * MAX_REGIONS == 4 << 40
    assert chains.region == MAX_REGION
    dice = random.Random(0)
    for _ in range(1000):
        chains.add(dice.randrange(64 << 20) << 20, REGION, dice.randrange(1 << 64))
    assert chains.bytes == 1000 * REGION

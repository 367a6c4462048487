"""A row of flags against a plain list of them."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from qmon.block.flags import SEGMENT, Flags

places = st.one_of(
    st.integers(0, 3 * SEGMENT + 9),
    st.integers(0, 3).flatmap(lambda number: st.integers(number * SEGMENT - 2, number * SEGMENT + 2)),
).map(lambda place: max(0, place))
steps = st.lists(
    st.tuples(st.sampled_from(["fill", "fill", "raise", "resize"]), places, places, st.integers(0, 1))
)


@given(places, st.integers(0, 1), steps, places, places)
def test_flags_are_what_was_set_last(
    count: int, value: int, todo: list[tuple[str, int, int, int]], start: int, stop: int
) -> None:
    flags, model = Flags(count, value), bytearray([value]) * count
    for call, first, second, new in todo:
        if call == "raise" and first < count:
            assert flags.raise_one(first) is (model[first] == 0)
            model[first] = 1
        elif call == "resize":
            assert flags.resize(first) == model[first:].count(1)
            model = model[:first].ljust(first, b"\0")
            count = first
        elif call == "fill":
            begin, end = sorted((min(first, count), min(second, count)))
            assert flags.fill(begin, end, new) == model[begin:end].count(1 - new)
            model[begin:end] = bytes([new]) * (end - begin)
    assert (flags.count, flags.raised()) == (count, model.count(1))
    for wanted in (0, 1):
        assert flags.find(wanted, start) == model.find(wanted, start)
        assert flags.find(wanted, start, min(stop, count)) == model.find(wanted, start, min(stop, count))


@given(places, steps, steps)
def test_bits_add_to_what_is_set(
    count: int, before: list[tuple[str, int, int, int]], added: list[tuple[str, int, int, int]]
) -> None:
    row, other = Flags(count), Flags(count)
    for flags, todo in ((row, before), (other, added)):
        for _, first, second, _ in todo:
            begin, end = sorted((min(first, count), min(second, count)))
            flags.fill(begin, end, 1)
    bits = other.packed(0, count)[: -(-count // 8)]
    union = bytes(row.find(1, at, at + 1) == at or other.find(1, at, at + 1) == at for at in range(count))
    raised = row.raised()
    assert row.put_packed(0, bits + b"\xff" * 600) == union.count(1) - raised
    assert row.part(0, count)[:count] == (union if 1 in union else b"")
    assert row.put_packed(0, bits) == 0


def test_two_rows_share_nothing_that_changes() -> None:
    one, other = Flags(SEGMENT), Flags(SEGMENT)
    one.raise_one(5)
    one.fill(7, 9, 1)
    assert other.find(1, 0) == -1
    copy = one.copy()
    one.raise_one(20)
    copy.raise_one(21)
    assert (one.find(1, 21), copy.find(1, 10), copy.raised()) == (-1, 21, 4)

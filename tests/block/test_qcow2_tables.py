"""What looks through qcow2 tables, against a plain list."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from qmon.block.qcow2.mapping import filled


@given(
    st.integers(0, 2000),
    st.dictionaries(st.integers(0, 1999), st.sampled_from([1, 1 << 9, 255 << 56, 1 << 63]), max_size=20),
    st.integers(0, 2000),
    st.integers(0, 2000),
    st.integers(1, 5),
)
def test_entries_that_are_not_zero_are_found_in_order(
    count: int, values: dict[int, int], one: int, other: int, most: int
) -> None:
    entries = array("Q", [values.get(index, 0) for index in range(count)])
    first, stop = sorted((min(one, count), min(other, count)))
    expected = [index for index in range(first, stop) if entries[index]]
    assert filled(entries, first, stop) == expected
    assert filled(entries, first, stop, most) == expected[:most]

"""Rows of table entries that are looked at together, against a look at each."""

from __future__ import annotations

from array import array

from hypothesis import given
from hypothesis import strategies as st

from qmon.block.qcow2.mapping import COPIED, OFFSET_MASK, ZERO, row, table_rows

CLUSTER = 4096
LAST = OFFSET_MASK & -CLUSTER

starts = st.sampled_from(
    [0, ZERO, COPIED, CLUSTER, COPIED | CLUSTER, COPIED | ZERO | 9 * CLUSTER, LAST - 5 * CLUSTER]
)
parts = st.lists(
    st.tuples(
        st.one_of(starts, st.integers(0, (1 << 64) - 1)), st.integers(1, 70), st.sampled_from([0, CLUSTER])
    ),
    min_size=1,
    max_size=4,
)


def entries_of(made: list[tuple[int, int, int]]) -> array[int]:
    return array(
        "Q", [(first + number * step) % (1 << 64) for first, count, step in made for number in range(count)]
    )


@given(parts, st.sampled_from([0, CLUSTER]), st.data())
def test_a_row_ends_where_an_entry_is_another(
    made: list[tuple[int, int, int]], step: int, data: st.DataObject
) -> None:
    entries = entries_of(made)
    index = data.draw(st.integers(0, len(entries) - 1))
    most = data.draw(st.integers(1, len(entries) - index))
    count, room = 1, OFFSET_MASK - (entries[index] & OFFSET_MASK)
    while count < most and entries[index + count] == entries[index] + count * step and count * step <= room:
        count += 1
    assert row(entries, index, most, step) in ({count} if (count + 1) * step <= room else {count, count - 1})


@given(parts, st.sampled_from([0, 1, 5]))
def test_rows_are_all_that_is_not_zero(made: list[tuple[int, int, int]], gap: int) -> None:
    entries = array("Q", bytes(8 * gap)) + entries_of(made) + array("Q", bytes(8 * gap))
    again = array("Q", bytes(8 * len(entries)))
    end = 0
    for index, count in table_rows(entries, CLUSTER):
        assert index >= end
        assert count == 1 or (count > 1 and entries[index] & OFFSET_MASK)  # the others name clusters
        end = index + count
        again[index:end] = array("Q", [entries[index] + number * CLUSTER for number in range(count)])
    assert again == entries

"""A set of clusters is what a set of numbers is, however much of it was changed."""

from __future__ import annotations

import tracemalloc
from array import array

from hypothesis import given
from hypothesis import strategies as st

from qmon.block.qcow2.cluster_set import ClusterSet, sorted_array

clusters = st.integers(0, 30)
steps = st.one_of(
    st.tuples(st.sampled_from(["add", "discard"]), clusters, clusters),
    st.tuples(st.just("add_sorted"), st.lists(clusters), clusters),
)


@given(st.lists(steps, max_size=60))
def test_it_holds_what_was_added_and_not_taken(todo: list[tuple[str, int | list[int], int]]) -> None:
    ours, model = ClusterSet(fewest_merged=3), set[int]()
    for call, what, stop in todo:
        if isinstance(what, list):
            ours.add_sorted(sorted_array(array("Q", what)))
            model.update(what)
            continue
        getattr(ours, call)(what)
        getattr(model, call)(what)
        assert ours.meets(what, stop) is any(what <= each < stop for each in model)
        assert [each for each in range(32) if each in ours] == sorted(model)
    other = ClusterSet(fewest_merged=3)
    other.add(31)
    other.add_set(ours)
    assert [each for each in range(32) if each in other] == sorted(model | {31})


@given(st.lists(st.integers(0, 1 << 40)))
def test_numbers_are_put_in_order(numbers: list[int]) -> None:
    assert sorted_array(array("Q", numbers), at_once=4).tolist() == sorted(numbers)


def test_many_take_little_memory() -> None:
    """A set of 200000 numbers takes about 20 MB."""
    many = sorted_array(array("Q", range(1 << 20, (1 << 20) + 600_000, 3)))
    tracemalloc.start()
    try:
        held = ClusterSet()
        held.add_sorted(many)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert (1 << 20) + 300_000 in held
    assert (1 << 20) + 300_001 not in held
    assert peak < 4 << 20

"""A comparison by digests: what the other console answers may be anything."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import QmonError
from qmon.remote.migration.agreement.overlay_files import create_line
from qmon.remote.migration.proof.checksums import BLOCK, RANGE_MAX, Range
from qmon.remote.migration.proof.comparison import Ask, Compared, compare
from qmon.remote.migration.proof.overlays import Overlay
from qmon.remote.migration.proof.views import Views

Outcome = TypeVar("Outcome")

OURS, THEIRS = "qmon-c0-abcdef", "qmon-x0-abcdef"
RANGES = [(number * RANGE_MAX, RANGE_MAX) for number in range(200)]


class Side:
    """The views of one side, with a digest for each place; it has time for ``at_once`` ranges."""

    def __init__(self, at_once: int, changed: Sequence[int] = ()) -> None:
        self.at_once = at_once
        self.changed = changed

    def __getitem__(self, name: str) -> Side:
        assert name == OURS
        return self

    async def digests(self, ranges: Sequence[Range], seconds: float) -> list[str]:
        return [f"{'changed' if at in self.changed else at:>32}" for at, _ in ranges][: self.at_once]


def run(ours: Side, ask: Ask, ranges: Sequence[Range] = RANGES, deadline: float | None = None) -> Compared:
    return asyncio.run(compare(cast(Views, ours), OURS, ask, THEIRS, ranges, deadline))


def asking(side: Side) -> Ask:
    async def ask(command: str, arguments: Mapping[str, Any]) -> Any:
        assert (command, arguments["view"]) == ("digests", THEIRS)
        return {"digests": await side.digests(arguments["ranges"], arguments["milliseconds"] / 1000)}

    return ask


@pytest.mark.parametrize(("here", "there"), [(1000, 1000), (1000, 1), (3, 7)])
def test_all_ranges_are_compared_however_few_a_side_reads_at_a_time(here: int, there: int) -> None:
    changed = [5 * RANGE_MAX, 199 * RANGE_MAX]
    found = run(Side(here), asking(Side(there, changed)))
    assert found.ranges == RANGES
    assert [at for at, _ in found.differing] == changed


def test_without_time_the_first_ranges_are_compared() -> None:
    found = run(Side(4), asking(Side(9)), deadline=0.0)
    assert found.ranges == RANGES[:4]


def test_a_console_that_compares_nothing_is_an_error() -> None:
    with pytest.raises(QmonError, match="has compared nothing"):
        run(Side(4), asking(Side(0)))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=40) | st.floats(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)


def tried(attempt: Callable[[], Outcome]) -> Outcome | None:
    """What an attempt returns; None if it fails with one line."""
    try:
        return attempt()
    except QmonError as error:
        lines = str(error).splitlines()
    assert len(lines) == 1
    return None


answers = json_values | st.builds(lambda digests: {"digests": digests}, st.lists(json_values, max_size=9))


@given(answers)
def test_any_answer_is_an_error_or_a_comparison_of_what_was_asked(answer: Any) -> None:
    async def ask(command: str, arguments: Mapping[str, Any]) -> Any:
        return answer

    asked = [(0, BLOCK), (BLOCK, BLOCK), (2 * BLOCK, BLOCK)]
    found = tried(lambda: run(Side(9), ask, asked, deadline=0.0))
    if found is not None:
        assert found.ranges == asked[: len(found.ranges)]
        assert set(found.differing) <= set(found.ranges)


@given(json_values)
def test_any_description_of_an_overlay_is_an_error_or_an_overlay(value: Any) -> None:
    overlay = tried(lambda: Overlay.from_message(value))
    assert overlay is None or overlay.size >= 0


def test_an_overlay_is_told_as_it_is() -> None:
    for overlay in (Overlay(5, -1), Overlay(0, -1), Overlay(1 << 40, 65536)):
        assert Overlay.from_message(overlay.to_message()) == overlay


def test_the_line_that_makes_an_overlay_can_be_pasted_into_a_shell() -> None:
    assert create_line("/a b/d0.qcow2", 1 << 20, "/srv/it's.raw", "raw") == (
        "qemu-img create -f qcow2 -b '/srv/it'\"'\"'s.raw' -F raw '/a b/d0.qcow2' 1048576"
    )

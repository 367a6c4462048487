"""What is said about a pasted text before the question."""

from __future__ import annotations

from functools import partial

from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from qmon.console.consent import question, summary
from qmon.hmp.line.reading import read_line
from qmon.hmp.pasting.doctor import OtherLine, Pasted
from qmon.hmp.tables.table import default_tables

read = partial(read_line, default_tables())
lines = st.lists(st.one_of(st.text(max_size=150), st.sampled_from(["stop", "\u65e5" * 60])), max_size=30)


@given(lines, lines, st.text(max_size=150), st.integers(20, 200))
def test_it_fits_a_small_terminal(runs: list[str], others: list[str], tail: str, columns: int) -> None:
    left_out = tuple(OtherLine(number, text) for number, text in enumerate(others, 1))
    rows = summary(Pasted(tuple(runs), tail, left_out, is_changed=True), read, columns).split("\n")
    assert all(get_cwidth(row) < max(columns, 60) for row in rows[:1])
    assert all(get_cwidth(row) < columns for row in rows[1:])
    assert len(rows) <= 22


@given(st.lists(st.sampled_from(["stop", "cont", "info block"]), max_size=12))
def test_all_of_a_few_lines_are_shown(runs: list[str]) -> None:
    rows = summary(Pasted(tuple(runs), is_changed=True), read, 80).split("\n")
    assert rows[1:] == [f"  {line}" for line in runs]


def test_one_is_one() -> None:
    pasted = Pasted(("stop",), left_out=(OtherLine(1, "Hello,"),), is_changed=True)
    assert summary(pasted, read, 80).startswith("Pasted text: 1 of 2 lines is a command:\n")
    assert question(pasted) == "Run it?"

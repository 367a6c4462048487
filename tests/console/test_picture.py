"""A picture fits on the screen, and says what of it does not."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st
from prompt_toolkit.utils import get_cwidth

from qmon.console import picture

FREE = 3
"""So many rows are left to what stands below."""


def fit(text: str, rows: int, columns: int) -> str:
    return picture.fit(text, rows + FREE, columns)


def test_what_fits_is_shown_as_it_is() -> None:
    assert fit("a\n\nb", 3, 10) == "a\n\nb"
    assert fit("", 3, 10) == ""


def test_what_does_not_fit_is_counted_in_lines() -> None:
    lines = "\n".join(map(str, range(10)))
    assert fit(lines, 4, 80) == "0\n1\n2\n(7 more lines: the screen is too small)"
    assert fit(f"a\nb\n{'c' * 8}", 4, 4) == "a\nb\ncccc\ncccc"
    assert fit(f"a\nb\n{'c' * 80}", 4, 40) == f"a\nb\n{'c' * 40}\n{'c' * 40}"
    assert fit(f"a\nb\n{'c' * 81}", 4, 40) == f"a\nb\n{'c' * 40}\n(1 more line: the screen is too small)"


@given(
    text=st.text(st.sampled_from("ab 字é\n"), max_size=200),
    rows=st.integers(1, 12),
    columns=st.integers(8, 40),
)
def test_a_picture_is_never_larger_than_its_place(text: str, rows: int, columns: int) -> None:
    shown = fit(text, rows, columns).split("\n")
    assert len(shown) <= rows
    assert all(get_cwidth(line) <= columns for line in shown)
    note = re.match(r"\((\d+) m", shown[-1])
    if note is None:
        assert "".join(shown) == text.replace("\n", "")


def test_the_words_of_a_notice_stay_whole() -> None:
    assert picture.wrapped("one two three\n  four five", 8) == "one two\nthree\n  four\n  five"
    assert picture.wrapped("as it  is", 9) == "as it  is"
    assert picture.wrapped("a/path/that/is/long x", 8) == "a/path/that/is/long\nx"

"""The progress bar fits where it is shown, and its rate and time left are right."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.console.progress import Pace, bar_text, plain_text
from qmon.notation.units import GIB, MIB, duration


@given(
    st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=30),
    st.integers(0, 1 << 60),
    st.integers(0, 1 << 60),
    st.text(st.characters(codec="ascii", categories=["L", "N"]), max_size=40),
    st.integers(4, 300),
)
def test_the_bar_fits_and_says_the_percentage(
    title: str, done: int, total: int, note: str, columns: int
) -> None:
    text = bar_text(title, done, total, note, columns)
    assert len(text) <= columns
    percent = re.search(r"(\d+)%", text)
    assert percent is not None
    assert 0 <= int(percent[1]) <= 100


def test_a_wide_terminal_shows_everything_and_a_narrow_one_the_bar() -> None:
    note = "780 MiB/s, 1 s left"
    wide = bar_text("migrate", 64 * MIB, 256 * MIB, note, 100)
    assert wide.startswith("migrate [####")
    assert wide.endswith(f"]  25%  64 MiB/256 MiB  {note}")
    sixty = bar_text("migrate", 64 * MIB, 256 * MIB, note, 59)
    assert re.fullmatch(rf"\[#+\.+\]  25%  64 MiB/256 MiB  {note}", sixty)
    assert re.fullmatch(r"\[##+\.+\]  25%", bar_text("migrate", 64 * MIB, 256 * MIB, note, 25))


def test_both_rates_fit_beside_the_sizes_and_the_time_left_goes_last() -> None:
    rates = "9.77 MiB/s, guests write 28.6 MiB/s"
    text = bar_text("migrate", 90 * MIB + MIB // 2, 256 * MIB, rates, 79)
    assert text.endswith(f"]  35%  90.5 MiB/256 MiB  {rates}")
    text = bar_text("migrate", 90 * MIB, 256 * MIB, f"{rates}, 2 min 5 s left", 79)
    assert text.endswith("]  35%  90 MiB/256 MiB  9.77 MiB/s, 2 min 5 s left")


def test_the_plain_line_says_the_same() -> None:
    assert plain_text("migrate", 64 * MIB, 256 * MIB, "fast") == "migrate: 25%, 64 MiB/256 MiB, fast"


def test_rate_and_time_left_follow_the_last_seconds() -> None:
    pace = Pace()
    assert pace.note(0, GIB, now=10.0) == ""
    assert pace.note(64 * MIB, GIB, now=11.0) == "64 MiB/s, 15 s left"
    for second in range(12, 18):
        note = pace.note((64 + 16 * (second - 11)) * MIB, GIB, now=float(second))
    assert note == "16 MiB/s, 54 s left"


def test_a_copy_that_falls_back_is_measured_anew() -> None:
    pace = Pace()
    pace.note(100 * MIB, GIB, now=1.0)
    assert pace.note(50 * MIB, GIB, now=2.0) == ""
    assert pace.note(60 * MIB, GIB, now=3.0).startswith("10 MiB/s, ")


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.4, "59 s"), (125, "2 min 5 s"), (3780, "1 h 3 min")]
)
def test_durations_are_short(seconds: float, text: str) -> None:
    assert duration(seconds) == text

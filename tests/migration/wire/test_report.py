"""A report arrives as it was made, fits into one answer whatever it says, and is refused if it is none."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.wire.answers import MAX_BODY, AnswerError
from qmon.migration.wire.report import MAX_SENTENCES, Report

sentences = st.lists(st.text(min_size=1, max_size=80), max_size=5).map(tuple)
GOOD: dict[str, Any] = {"mismatches": [], "warnings": [], "needed": []}


@given(st.builds(Report, sentences, sentences, st.lists(st.integers(0, 1000), max_size=4).map(tuple)))
def test_it_is_read_as_it_was_made(report: Report) -> None:
    assert Report.decode(report.encode()) == report


@pytest.mark.parametrize("letter", ["x", "\x1b", "\udc80", "\U0001f4be"])
def test_however_much_is_wrong_it_fits_into_an_answer(letter: str) -> None:
    wrong = (letter * 5000,) * 1000
    body = Report(wrong, wrong).encode()
    assert len(body) <= MAX_BODY
    read = Report.decode(body)
    assert len(read.mismatches) <= MAX_SENTENCES + 1
    assert read.mismatches[-1] == f"and {1000 - len(read.mismatches) + 1} more"


def test_fields_of_a_later_version_are_left_alone() -> None:
    assert Report.decode(json.dumps({**GOOD, "later": 1}).encode()) == Report()


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_refused(body: bytes) -> None:
    with pytest.raises(AnswerError):
        Report.decode(body)


@pytest.mark.parametrize(
    "wrong",
    [
        {"mismatches": "x"},
        {"mismatches": [""]},
        {"mismatches": [5]},
        {"warnings": None},
        {"warnings": ["x"] * (MAX_SENTENCES + 2)},
        {"needed": [-1]},
        {"needed": [True]},
        {"needed": {}},
    ],
)
def test_one_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(AnswerError, match="REPORT can't be read"):
        Report.decode(json.dumps({**GOOD, **wrong}).encode())


def test_json_that_is_meant_to_hurt_is_refused() -> None:
    for body in (b"[" * 60_000, b"9" * 60_000, b'{"mismatches":' * 4000):
        with pytest.raises(AnswerError):
            Report.decode(body)

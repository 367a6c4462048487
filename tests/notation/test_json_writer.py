"""JSON as QEMU writes it: every reader reads it, no piece is long, and members are in QEMU's order."""

from __future__ import annotations

import json
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.notation.json_writer import PIECE, json_pieces

characters = st.characters(codec="utf-8", exclude_categories=["Cn"])
leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(characters, max_size=9)
)
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(characters, max_size=5), inner, max_size=4)
    ),
)


def written(value: Any, **layout: Any) -> str:
    return "".join(json_pieces(value, **layout))


@given(values, st.booleans())
def test_it_reads_as_the_value(value: Any, pretty: bool) -> None:
    text = written(value, pretty=pretty)
    assert text.isascii()
    assert json.loads(text) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ([1, -0.0, 1.0, 0.1, 1e22, 1 << 64], "[1, -0, 1, 0.10000000000000001, 1e+22, 18446744073709551616]"),
        ([None, True, False, [], {}], "[null, true, false, [], {}]"),
        (
            "\u00e9\u2028\U0001f600\x7f\x01\b\"\\/'",
            '"\\u00E9\\u2028\\uD83D\\uDE00\\u007F\\u0001\\b\\"\\\\/\'"',
        ),
        ("\udced\udca0\udc80\udcc3x\udcff\ufffe", '"\\uFFFD\\uFFFDx\\uFFFD\\uFFFD"'),
        ({"id": 1, "return": {}}, '{"return": {}, "id": 1}'),
        ({"major": 7, "minor": 2, "micro": 0}, '{"micro": 0, "minor": 2, "major": 7}'),
        (
            {"name": 3, "id": 4, "b": 2, "a": 1, "execute": 5},
            '{"name": 3, "a": 1, "execute": 5, "b": 2, "id": 4}',
        ),
    ],
)
def test_it_is_written_as_by_qemu(value: Any, text: str) -> None:
    assert written(value) == text


def test_pretty_is_for_a_person() -> None:
    assert written({"return": [1, {}, {"a": []}]}, pretty=True, newline="\r\n") == (
        '{\r\n    "return": [\r\n        1,\r\n        {\r\n        },\r\n        {\r\n            "a": [\r\n'
        "            ]\r\n        }\r\n    ]\r\n}"
    )


def test_what_is_no_json_is_refused() -> None:
    with pytest.raises(TypeError, match="object is not JSON serializable"):
        written([object()])


def test_pieces_are_short_however_long_and_deep_the_value_is() -> None:
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    value = {"k" * 100_000: "\N{GRINNING FACE}" * 100_000, "many": list(range(50_000)), "deep": deep}
    pieces = list(json_pieces(value))
    assert max(map(len, pieces)) < 20 * PIECE
    head, _, tail = "".join(pieces).partition(', "deep": ')
    assert json.loads(head + "}") == {name: value[name] for name in list(value)[:2]}
    assert tail == "[" * 5000 + "0" + "]" * 5000 + "}"


def test_no_number_is_infinite() -> None:
    for value in (math.inf, -math.inf, math.nan):
        with pytest.raises(ValueError, match="no number"):
            written(value)

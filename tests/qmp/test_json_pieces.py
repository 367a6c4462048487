"""A JSON value in pieces is the value that one text would be, and no piece is long."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from qmon.qmp.json_pieces import PIECE, json_pieces

leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9)
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
)


@given(values)
def test_it_reads_as_one_text_does(value: Any) -> None:
    assert "".join(json_pieces(value)) == json.dumps(value)


def test_pieces_are_short_however_long_and_deep_the_value_is() -> None:
    deep: Any = 0
    for _ in range(5000):
        deep = [deep]
    value = {"k" * 100_000: "\N{GRINNING FACE}" * 100_000, "many": list(range(50_000)), "deep": deep}
    pieces = list(json_pieces(value))
    assert max(map(len, pieces)) < 20 * PIECE
    head, _, tail = "".join(pieces).partition(', "deep": ')
    assert head + "}" == json.dumps({name: value[name] for name in list(value)[:2]})
    assert tail == "[" * 5000 + "0" + "]" * 5000 + "}"

"""The small readers behind objects: nested option strings, and JSON as a person writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.errors import UsageError
from qmon.notation.json_text import parse_json, pretty_json
from qmon.notation.keyval_tree import parse_tree
from qmon.notation.object_options import parse_object

NAMES = st.from_regex(r"[A-Za-z][A-Za-z0-9_-]{0,8}", fullmatch=True)
TREES = st.dictionaries(
    NAMES,
    st.recursive(
        st.text(max_size=6),
        lambda inner: (
            st.lists(inner, min_size=1, max_size=3) | st.dictionaries(NAMES, inner, min_size=1, max_size=3)
        ),
        max_leaves=8,
    ),
    max_size=4,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=10,
)


def refusal(read: Callable[[str], object], text: str) -> str | None:
    """What a reader says against a text; None when it takes it."""
    try:
        read(text)
    except UsageError as error:
        return str(error)
    return None


def written(value: Any, key: str = "") -> list[str]:
    """The parts of an option string that hold a value."""
    if isinstance(value, str):
        return [f"{key}={value.replace(',', ',,')}"]
    items = value.items() if isinstance(value, dict) else enumerate(value)
    return [part for name, item in items for part in written(item, f"{key}.{name}" if key else str(name))]


@given(TREES)
def test_a_tree_is_read_as_it_was_written(tree: dict[str, Any]) -> None:
    assert parse_tree(",".join(written(tree))) == (tree, False)


@given(st.text("ab01.,=-_? help", max_size=20))
def test_any_option_string_is_read_or_refused_in_one_line(text: str) -> None:
    for read in (lambda text: parse_tree(text, "type"), parse_object):
        assert refusal(read, text) != ""


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a.b=1,a=2", "Parameters 'a.*' used inconsistently"),
        ("a=1,a.b=2", "Parameters 'a.*' used inconsistently"),
        ("a.0=1,a.b=2", "Parameters 'a.*' used inconsistently"),
        ("a.1=1", "Parameter 'a.0' missing"),
        ("a.99999999999999999999=1", "Parameter 'a.0' missing"),
        ("0=1", "Invalid parameter '0'"),
        ("a", "Expected '=' after parameter 'a'"),
        ("x" * 128 + "=1", f"Parameter '{'x' * 128}' is too long"),
        ("a." + "x" * 128 + "=1", f"Parameter fragment '{'x' * 128}' is too long"),
    ],
)
def test_what_a_tree_can_t_be_is_told_in_qemus_words(text: str, told: str) -> None:
    with pytest.raises(UsageError) as caught:
        parse_tree(text)
    assert str(caught.value) == told


@given(JSON)
def test_json_is_read_as_it_was_written(value: Any) -> None:
    assert parse_json(json.dumps(value)) == value
    assert parse_json(json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")) == value


@given(JSON)
def test_json_is_printed_so_that_it_can_be_read(value: Any) -> None:
    assert json.loads(pretty_json(value)) == value


@given(st.text(max_size=12) | st.text("{}[]:,\"'\\u01-.e \x00", max_size=12))
def test_any_text_is_json_or_refused(text: str) -> None:
    assert "JSON" in (refusal(parse_json, text) or "it is JSON")


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000, "[" * 501 + "]" * 501])
def test_what_is_nested_too_deep_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="nesting depth"):
        parse_json(text)

"""JSON values out of a stream: found wherever it is cut, with garbage between them, and never for long."""

from __future__ import annotations

import itertools
import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.errors import CommandError
from qmon.host.budget import Budget
from qmon.qmp.framer import MAX_NESTING, MAX_TOKEN_COUNT, MAX_TOKEN_SIZE, JsonFramer

characters = st.characters(codec="utf-8", exclude_categories=["Cn"])
texts = st.text(characters | st.sampled_from('{}[]"\\\n\t'), max_size=12)
integers = st.integers(-(1 << 63), (1 << 64) - 1)
leaves = st.none() | st.booleans() | integers | st.floats(allow_nan=False, allow_infinity=False) | texts
values = st.recursive(
    leaves,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=10,
)
containers = st.dictionaries(texts, values, max_size=4) | st.lists(values, max_size=4)
spaces = st.text(" \t\r\n", max_size=3)


def wrong(what: str) -> str:
    return f"JSON parse error, {what}"


NO_VALUE = wrong("expecting value")


def frame(*pieces: bytes, max_size: int = MAX_TOKEN_SIZE, max_count: int = MAX_TOKEN_COUNT) -> list[Any]:
    """What comes out; an error as its text."""
    reader = JsonFramer(max_size=max_size, max_count=max_count)
    return [
        str(item) if isinstance(item, CommandError) else item
        for piece in pieces
        for item in reader.feed(piece)
    ]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted(place % (len(data) + 1) for place in places), len(data)]
    return [data[start:stop] for start, stop in itertools.pairwise(edges)]


@settings(deadline=None)
@given(
    st.lists(st.tuples(containers, spaces, st.booleans()), max_size=6),
    st.lists(st.integers(0, 1 << 20), max_size=8),
)
def test_values_are_found_wherever_the_stream_is_cut(
    sent: list[tuple[Any, str, bool]], places: list[int]
) -> None:
    """With any space between them or none, with escapes or plain UTF-8."""
    data = "".join(json.dumps(value, ensure_ascii=ascii_only) + space for value, space, ascii_only in sent)
    assert frame(*cut(data.encode(), places)) == [value for value, _, _ in sent]


@settings(deadline=None)
@given(st.lists(containers, max_size=4), st.data())
def test_each_value_comes_with_its_last_byte(sent: list[Any], choice: st.DataObject) -> None:
    reader = JsonFramer()
    for value in sent:
        text = json.dumps(value).encode()
        assert list(reader.feed(text[:-1])) == []
        assert list(reader.feed(text[-1:])) == [value]


garbage = st.text(
    st.characters(codec="utf-8", exclude_characters="\n\r{}[]", exclude_categories=["Cc", "Zs"]), min_size=1
)


@settings(deadline=None)
@given(st.lists(st.tuples(containers, garbage), max_size=5), st.lists(st.integers(0, 1 << 20), max_size=8))
def test_after_a_line_of_garbage_the_next_value_is_heard(
    sent: list[tuple[Any, str]], places: list[int]
) -> None:
    data = "".join(json.dumps(value) + noise + "\n" for value, noise in sent)
    found = frame(*cut(data.encode(), places))
    assert [item for item in found if isinstance(item, dict | list)] == [value for value, _ in sent]
    assert len(found) >= 2 * len(sent)


@settings(deadline=None)
@given(st.binary(max_size=300), st.lists(st.integers(0, 300), max_size=4))
def test_any_bytes_give_the_same_wherever_they_are_cut(data: bytes, places: list[int]) -> None:
    """And nothing but values and errors; after a break and a line end the next command is heard."""
    ending = b'\xff\n{"the": "next"}'
    assert frame(*cut(data, places), ending) == frame(data, ending)
    assert frame(data, ending)[-1] == {"the": "next"}


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", []),
        (b" \r\n\t", []),
        (b"{}{}[]", [{}, {}, []]),
        (b'{"a": "}"}', [{"a": "}"}]),
        (b'{"a": "\\""}{"b": "\\\\"}', [{"a": '"'}, {"b": "\\"}]),
        (b'{"a": "\\\\\\""}', [{"a": '\\"'}]),
        (b"{'a': 'b\"c', \"d\": 'it\\'s'}", [{"a": 'b"c', "d": "it's"}]),
        (b"foo\n{}", [wrong("invalid keyword 'foo'"), {}]),
        (b"foo {}\n{}", [wrong("invalid keyword 'foo'"), {}, {}]),
        (b'!foo "x" {}', [wrong("stray '!'"), {}]),
        (b"}{}", [NO_VALUE, {}]),
        (b"{]{}", [NO_VALUE, {}]),
        (b"{]}{}", [NO_VALUE, NO_VALUE, {}]),
        (b'"\n{}', [wrong("stray '\"\n'"), {}]),
        (b'"a string"\n5\n', ["a string", 5]),
        (b'{"open\n{}', [wrong("stray '\"open\n'"), {}]),
        (b'{"a": NaN}[1]', [wrong("stray 'N'"), NO_VALUE, [1]]),
        (b"{\\}{}", [wrong("stray '\\'"), NO_VALUE, {}]),
        (b'{"a": "\xc3"}', [wrong("invalid UTF-8 sequence in string")]),
        (b'{"a": "\\ud83d"}', [wrong("\\ud83d is not a valid Unicode character")]),
        (b'{"a": "\\x"}', [wrong("invalid escape sequence in string")]),
        (b"{\0}", [wrong("stray ''"), NO_VALUE]),
        (b'{"a": 1, "a": 2}', [wrong("duplicate key")]),
        (b'{"a" 1}', [wrong("missing : in object pair")]),
        (b'{"a": 1 2}', [wrong("expected separator in dict")]),
        (b"[1 2]", [wrong("expected separator in list")]),
        (b"{[1]: 2}", [wrong("key is not a string in object")]),
        (b"[01]", [wrong("stray '01'"), NO_VALUE]),
        (b"[1.]", [wrong("stray '1.]'")]),
        (b"[-9223372036854775808, 18446744073709551615]", [[-(1 << 63), (1 << 64) - 1]]),
        (b"[18446744073709551616]", [[18446744073709551616.0]]),
        (b"[1e999, foo]", [wrong("invalid keyword 'foo'")]),
        (b"[1e999]{}", [wrong("number '1e999' is too large"), {}]),
        (b"[" + b"9" * 500 + b"]{}", [wrong(f"number '{'9' * 40}...' is too large"), {}]),
        (b"[" + b"9" * 5000 + b"]{}", [wrong(f"stray '{'9' * 40}...'"), NO_VALUE, {}]),
    ],
)
def test_what_is_said_of_this_and_that(data: bytes, expected: list[Any]) -> None:
    assert frame(data) == expected
    assert frame(*(data[place : place + 1] for place in range(len(data)))) == expected


@pytest.mark.parametrize("begun", [b'{"execute": "que', b"{[[{", b'{"a\\', b"foo", b'{"a": {'])
@pytest.mark.parametrize("byte", [b"\xff", b"\x01"])
def test_a_client_can_make_itself_heard_again(begun: bytes, byte: bytes) -> None:
    """docs/interop/qmp-spec: forcing the JSON parser into known-good state."""
    *errors, heard = frame(begun, byte, b'{"execute": "x"}')
    assert heard == {"execute": "x"}
    assert errors
    assert all(error.startswith("JSON parse error, ") for error in errors)


def test_nesting_has_an_end() -> None:
    for depth in (1, MAX_NESTING):
        (value,) = frame(b"[" * depth + b"]" * depth)
        found = 1
        while value:
            (value,) = value
            found += 1
        assert found == depth
    for depth in (MAX_NESTING + 1, 100_000):
        assert frame(b"[" * depth + b"]" * depth + b"{}") == ["JSON nesting depth limit exceeded", {}]


@pytest.mark.parametrize(
    ("begun", "more", "end"),
    [
        (b'{"a": "', b"x", b'"}'),
        (b"[", b'"x",', b"1]"),
        (b'{"a": [', b'"\\n",', b"1]}"),
        (b"[", b"10,", b"1]"),
    ],
)
def test_a_message_has_a_largest_size_and_is_refused_once(begun: bytes, more: bytes, end: bytes) -> None:
    assert frame(begun, more * 100, end, max_size=1000)[0] is not None
    sent = begun, *[more] * 1000
    assert frame(*sent, max_size=1000) == ["JSON token size limit exceeded"]
    assert frame(*sent, end, b"{}", max_size=1000) == ["JSON token size limit exceeded", {}]
    assert frame(*sent, b"\xff", b"{}", max_size=1000) == ["JSON token size limit exceeded", {}]


def test_a_message_has_a_largest_number_of_tokens() -> None:
    nine = b'{"a":[1,2]}'
    assert frame(nine, max_count=9) == [{"a": [1, 2]}]
    assert frame(b"[[],[],[]]{}", max_count=9) == ["JSON token count limit exceeded", {}]
    assert frame(b"[1,2,3,4,", b"5]{}", max_count=9) == ["JSON token count limit exceeded", {}]


def test_wide_characters_count_as_what_they_take() -> None:
    assert frame(b'["' + b"x" * 900 + b'"]', max_size=1000) == [["x" * 900]]
    for wide in ("\u0416", "\U0001f600"):
        for text in (json.dumps([wide + "x" * 900]), json.dumps(["x" * 900 + wide], ensure_ascii=False)):
            pieces = [text[at : at + 7].encode() for at in range(0, len(text), 7)]
            assert frame(*pieces, b"{}", max_size=1000) == [
                "JSON token size limit exceeded",
                {},
            ]


def test_all_clients_share_what_large_messages_take() -> None:
    budget = Budget(3 << 20)
    first, second = JsonFramer(budget), JsonFramer(budget)
    large = b'["' + b"x" * (3 << 20)
    assert list(first.feed(large)) == []
    (error,) = second.feed(large)
    assert str(error) == "JSON token size limit exceeded"
    assert list(second.feed(b'"]{"small": 1}')) == [{"small": 1}]
    assert list(first.feed(b'"]')) == [["x" * (3 << 20)]]
    assert list(second.feed(large)) == []
    second.close()
    assert list(first.feed(large)) == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b'"\\ud83d\\ude00"', "\N{GRINNING FACE}"),
        (b'"x\\\\ud83d"', "x\\ud83d"),
        (b'"\\ud83d"', "\\ud83d"),
        (b'"\\ude00\\ud83d"', "\\ude00"),
        (b'"\\ud83dx\\ude00"', "\\ud83d"),
        (b'"\\ud83d\\u0041"', "\\ud83d"),
        (b'"\\u12"', '\\u12"'),
        (b'"\\uFDD0"', "\\uFDD0"),
    ],
)
def test_an_escape_is_read_as_a_whole_wherever_it_is_cut(text: bytes, expected: str) -> None:
    whole = b"[" + text + b"]"
    refused = wrong(f"{expected} is not a valid Unicode character")
    for place in range(len(whole)):
        assert frame(whole[:place], whole[place:]) in ([[expected]], [refused])


def test_space_alone_is_not_kept() -> None:
    reader = JsonFramer()
    for _ in range(100):
        assert list(reader.feed(b" " * 65536)) == []
    assert list(reader.feed(b"{}")) == [{}]
    assert len(reader._text) <= 65536


@pytest.mark.parametrize("begun", [b'{"a": "', b"foo", b'{"a": '])
def test_a_long_message_in_small_pieces_is_looked_at_once(begun: bytes) -> None:
    """The loop serves others, too: twice as much takes about twice as long, not four times."""

    def seconds(pieces: int) -> float:
        reader = JsonFramer()
        list(reader.feed(begun))
        start = time.process_time()
        for _ in range(pieces):
            list(reader.feed(b"1" * 1024))
        return time.process_time() - start

    seconds(100)
    assert min(seconds(8000) for _ in range(3)) < 20 * min(seconds(1000) for _ in range(3)) + 0.3

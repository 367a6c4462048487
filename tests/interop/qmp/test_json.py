"""QEMU 7.2 and qmon read the same JSON, right or wrong, say the same of it, and write the same."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.support.qmp_both import Both
from tests.support.thoroughness import examples

ATOMS = [
    *(character.encode() for character in "{}[]:,\"'\\!%N \n\t.-e0190"),
    *(b'"a"', b"'b'", b'"a":', b'{"k":', b"[1,", b"1.5", b"1e5", b"-0", b"0.1", b"true", b"null", b"foo"),
    *(b"\\u", b"\\n", b"\\x", b"\\ud83d\\ude00", b"\\ud800", b"\\udc00", b"\\uFDD0", b"\\uffff", b"d83d"),
    *(b"\x00", b"\x01", b"\x7f", b"\xff", b"\xfe", b"\x80", b"\xc3", b"\xe2\x82", b"\xc0\x80"),
    *("é".encode(), "😀".encode(), b"\xed\xa0\x80", b"\xef\xbf\xbf", b"\xf4\x90\x80\x80"),
    *(b"18446744073709551616", b"-9223372036854775809"),
]

keys = st.sampled_from(["a", "b", "name", "id", "k\u00e9", "class", "desc", "node-name"]) | st.text(
    max_size=5
)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(1 << 70), 1 << 70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5)
)


def as_json(value: object, ascii_only: bool) -> bytes:
    return json.dumps(value, ensure_ascii=ascii_only).encode("utf-8", "surrogatepass")


garbage = st.lists(st.sampled_from(ATOMS), max_size=13).map(b"".join)
damaged = st.builds(
    lambda data, cuts: b"".join(data[: cut % (len(data) + 1)] + atom for cut, atom in cuts) + data,
    st.builds(as_json, values, st.booleans()),
    st.lists(st.tuples(st.integers(0, 99), st.sampled_from(ATOMS)), max_size=2),
)
echoed = (garbage | damaged).map(lambda data: b'{"execute": "query-name", "id": ' + data + b"}")

HUGE = re.compile(rb"\d{30}|[eE][-+]?\d{3}")
"""Numbers that may be infinite: see below."""

alike = settings(max_examples=examples(300))


@alike
@given((garbage | damaged | echoed).filter(lambda data: not HUGE.search(data)))
def test_garbled_json(both: Both, data: bytes) -> None:
    both.agree_on_text(data)


@alike
@given(st.builds(as_json, values, st.booleans()))
def test_values_come_back_as_qemu_writes_them(both: Both, data: bytes) -> None:
    both.agree_on_text(b'{"execute": "query-name", "id": ' + data + b"}")


@pytest.mark.parametrize(
    "data",
    [
        b"{ 'execute': 'query-status', \"id\": 'it says \"x\"' }",
        b"{'execute': 'query-status', 'id': ['\\'', \"'\", '\\\"', {\"a'\": 1, 'b\"': 2}]}",
        b'{"execute": "query-status", "execute": "x"}',
        b'{"execute": "query-status", "id": {"a": 1, "a": 1}}',
        b'{"execute": "query-status", "id": NaN}',
        b'{"execute": "query-status", "id": "\\ud83d"}',
        b'{"execute": "query-status", "id": "\xc3"}',
        b'{"execute": "query-status", "id": [18446744073709551615, 18446744073709551616, 1e5, -0, 0.1]}',
        b'{"zz": 1, "aa": 2, "execute": 5, "arguments": 3}',
    ],
)
def test_what_scripts_and_strangers_send(both: Both, data: bytes) -> None:
    both.agree_on_text(data)


def test_infinity_is_refused(both: Both) -> None:
    """QEMU takes it, and answers with what is no JSON."""
    said = both.qmon.send('{"execute": "query-name", "id": 1e999}')
    assert said["error"]["desc"] == "JSON parse error, number '1e999' is too large"

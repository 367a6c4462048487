"""The marks of dirty bitmaps in the stream: damage is one kind of error, and leads nowhere outside."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.wire.bitmaps import PART, decode, encode
from qmon.migration.wire.stream import StreamError

RUNS = st.lists(st.tuples(st.integers(0, 40), st.integers(1, 40)), max_size=30)
"""Unmarked and marked chunks, in turn."""


def flags(runs: list[tuple[int, int]], times: int = 1) -> bytes:
    return b"".join(bytes(gap) + b"\1" * count for gap, count in runs) * times


@given(RUNS, st.integers(0, 100), st.sampled_from([1, 2000]))
def test_a_damaged_record_is_refused_or_stays_inside(
    runs: list[tuple[int, int]], place: int, times: int
) -> None:
    payload = bytearray(encode(flags(runs, times)[:PART]))
    payload[place % len(payload)] ^= 0x55
    chunks = 5000
    with contextlib.suppress(StreamError):
        found = decode(bytes(payload), 0, chunks)
        if isinstance(found, bytes):
            assert len(found) <= PART // 8
        else:
            assert all(first >= 0 and first + count <= chunks for first, count in found)


@given(st.binary(max_size=300), st.integers(0, 1 << 64), st.integers(0, 1 << 32))
def test_nonsense_is_refused(payload: bytes, first: int, chunks: int) -> None:
    with contextlib.suppress(StreamError):
        found = decode(payload, first, chunks)
        assert isinstance(found, bytes) or all(at + count <= chunks for at, count in found)


def test_what_lies_outside_a_bitmap_is_refused() -> None:
    payload = encode(b"\0\1")
    assert decode(payload, 8, 10) == [(9, 1)]
    for first, chunks in ((9, 10), (10, 10), (1 << 40, 10)):
        with pytest.raises(StreamError):
            decode(payload, first, chunks)

"""Forwarded requests on the wire: they come back whole, and damage is seen before anything is waited for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.node import Extent
from qmon.block.node import Kind as ExtentKind
from qmon.migration.destination.freshness import LATE_MS, Freshness
from qmon.migration.wire.forward import (
    HEADER,
    MAX_BODY,
    REQUEST,
    ForwardError,
    Kind,
    Message,
    Messages,
    OpenedDrive,
    Operation,
    opening,
    pack,
    pack_extents,
    read_extents,
    read_opening,
)

payloads = st.lists(st.binary(max_size=3000), min_size=1, max_size=6)


def stream(contents: list[bytes]) -> bytes:
    """Messages with these payloads; the number is the place."""
    return b"".join(
        piece for number, each in enumerate(contents) for piece in pack(Kind.REQUESTS, [each], number=number)
    )


def taken(data: bytes, size: int) -> list[tuple[int, bytes]]:
    """What is read of data that arrive in pieces."""
    messages = Messages()
    found = []
    for start in range(0, len(data), size):
        piece = data[start : start + size]
        messages.room()[: len(piece)] = piece
        messages.filled(len(piece))
        found += [(each.number, bytes(each.body)) for each in messages.items()]
    return found


@given(payloads, st.integers(1, 5000))
def test_messages_come_back_whole_in_pieces_of_any_size(contents: list[bytes], size: int) -> None:
    assert taken(stream(contents), size) == list(enumerate(contents))


@given(payloads, st.data())
def test_a_flipped_bit_is_seen_at_once(contents: list[bytes], data: st.DataObject) -> None:
    whole = bytearray(stream(contents))
    bit = data.draw(st.integers(0, 8 * len(whole) - 1))
    whole[bit // 8] ^= 1 << bit % 8
    with pytest.raises(ForwardError, match="checksum mismatch"):
        taken(bytes(whole), 1000)


def test_a_message_that_is_too_long_is_refused_by_its_header() -> None:
    header = bytes(pack(Kind.REQUESTS, [bytes(MAX_BODY + 1)])[0])
    assert len(header) == HEADER.size
    with pytest.raises(
        ForwardError, match=f"a message of {MAX_BODY + 1} bytes, at most {MAX_BODY} are allowed"
    ):
        taken(header, 100)


records = st.tuples(
    st.sampled_from(Operation),
    st.integers(0, 255),
    st.integers(0, 65535),
    *(st.integers(0, (1 << 64) - 1) for _ in range(3)),
)


def only(data: bytes) -> Message:
    """The only message in these bytes."""
    messages = Messages(data)
    (found,) = messages.items()
    return found


@given(st.lists(records, min_size=1, max_size=50), st.binary(max_size=2000))
def test_requests_come_back_with_their_data(asked: list[tuple[int, ...]], data: bytes) -> None:
    body = [b"".join(REQUEST.pack(*each) for each in asked), data]
    found, rest = only(b"".join(pack(Kind.REQUESTS, body, number=len(asked), stamp=7))).records(REQUEST)
    assert (list(found), bytes(rest)) == (asked, data)


@pytest.mark.parametrize(("number", "size"), [(0, 28), (2, 55), (513, 513 * 28), (1 << 31, 28)])
def test_a_message_whose_records_do_not_fit_is_refused(number: int, size: int) -> None:
    message = only(b"".join(pack(Kind.REQUESTS, [bytes(size)], number=number)))
    with pytest.raises(ForwardError, match=f"a message of {size} bytes with {number} records"):
        message.records(REQUEST)


@given(st.lists(st.tuples(st.integers(1, 1 << 40), st.booleans()), min_size=1, max_size=20))
def test_extents_come_back(spans: list[tuple[int, bool]]) -> None:
    extents, offset = [], 4096
    for length, is_data in spans:
        extents.append(Extent(offset, length, ExtentKind.DATA if is_data else ExtentKind.ZERO))
        offset += length
    packed = pack_extents(extents)
    assert read_extents(packed, 4096, offset - 4096) == extents
    with pytest.raises(ForwardError):
        read_extents(packed, 4096, offset - 4096 - 1)


@pytest.mark.parametrize(
    "payload", [b"", b"{}", b"[1]", b'[{"id": "d0"}]', b'[{"id": "d0", "size": "x"}]', b"\xff"]
)
def test_a_list_of_drives_that_makes_no_sense_is_refused(payload: bytes) -> None:
    drives = [OpenedDrive("d0", 512), OpenedDrive("d1", 0)]
    assert read_opening(opening(drives)) == drives
    if payload == b"{}":
        assert read_opening(payload) == []
        return
    with pytest.raises(ForwardError, match="can't be read"):
        read_opening(payload)


class TestFreshness:
    """Whether a message was long on its way, whatever the two clocks show."""

    @given(st.integers(0, 1 << 40), st.lists(st.integers(0, LATE_MS), max_size=30))
    def test_what_comes_in_time_is_never_late(self, skew: int, delays: list[int]) -> None:
        fresh = Freshness()
        for number, delay in enumerate([0, *delays]):
            sent = number * 100_000
            assert not fresh.is_late((sent + skew) & 0xFFFFFFFF, sent + delay)

    @given(st.integers(0, 1 << 40), st.integers(LATE_MS + 1, 10_000_000))
    def test_what_was_held_up_is_late(self, skew: int, delay: int) -> None:
        fresh = Freshness()
        for sent in (0, 5000, 10_000):
            assert not fresh.is_late((sent + skew) & 0xFFFFFFFF, sent + 3)
        assert fresh.is_late((11_000 + skew) & 0xFFFFFFFF, 11_000 + 3 + delay)

    def test_clocks_that_drift_apart_make_nothing_late(self) -> None:
        fresh = Freshness()
        for second in range(0, 400_000, 5):  # four days and more, at 100 ppm
            assert not fresh.is_late(second * 1000, second * 1000 + second // 10)

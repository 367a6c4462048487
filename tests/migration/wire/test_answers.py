"""The return path: what the destination says arrives as said, or the source is told that it did not."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.migration.wire import answers
from qmon.migration.wire.answers import MAX_BODY, MAX_RANGES, Answer, AnswerError, AnswerReader, Type, encode

u64 = st.integers(0, (1 << 64) - 1)
ranges = st.lists(st.tuples(u64, u64), max_size=5)
messages = st.one_of(
    st.sampled_from([encode(Type.AGREED), encode(Type.RUNNING)]),
    u64.map(answers.applied),
    u64.map(answers.flushed),
    st.builds(answers.prepared, u64, u64),
    st.text(max_size=40).map(answers.refused),
    st.builds(answers.compared, st.booleans(), st.lists(st.integers(0, 1023), max_size=5)),
    st.builds(answers.needed, st.integers(0, 0xFFFF)),
    st.builds(lambda drive, some: b"".join(answers.zeros(drive, some)), st.integers(0, 0xFFFF), ranges),
)

PATH = b"".join(
    [
        *answers.zeros(1, [(0, 4096), (1 << 40, 1 << 30)]),
        encode(Type.AGREED),
        answers.applied(7),
        answers.flushed(8),
        answers.prepared(9, 0x1122334455667788),
        answers.refused("the disk is full"),
        encode(Type.RUNNING),
    ]
)
ENDLESS = bytes(1 << 17)


class Feed:
    """A reader and what it delivered before it refused."""

    def __init__(self) -> None:
        self.reader = AnswerReader()
        self.answers: list[Answer] = []

    def give(self, piece: bytes) -> None:
        for answer in self.reader.feed(piece):
            self.answers.append(answer)


def whole(path: bytes) -> list[Answer]:
    feed = Feed()
    feed.give(path)
    return feed.answers


ORDERED = whole(PATH)


def test_each_message_says_what_was_said() -> None:
    zeros, agreed, applied, flushed, prepared, refused, running = ORDERED
    assert zeros.zeros == (1, [(0, 4096), (1 << 40, 1 << 30)])
    assert (agreed.type, running.type) == (Type.AGREED, Type.RUNNING)
    assert (applied.type, applied.number) == (Type.APPLIED, 7)
    assert (flushed.type, flushed.number) == (Type.FLUSHED, 8)
    assert prepared.prepared == (9, 0x1122334455667788)
    assert (refused.type, refused.text) == (Type.REFUSED, "the disk is full")


@settings(deadline=None)
@given(st.lists(messages), st.data())
def test_any_messages_arrive_wherever_they_are_cut(sent: list[bytes], choice: st.DataObject) -> None:
    path = b"".join(sent)
    expected = [answer for message in sent for answer in whole(message)]
    feed = Feed()
    cuts = sorted(choice.draw(st.lists(st.integers(0, len(path)), max_size=6)))
    for start, stop in zip([0, *cuts], [*cuts, len(path)], strict=True):
        feed.give(path[start:stop])
    assert feed.answers == expected


def test_they_may_come_byte_by_byte() -> None:
    feed = Feed()
    for position in range(len(PATH)):
        feed.give(PATH[position : position + 1])
    assert feed.answers == ORDERED


@settings(deadline=None)
@given(st.integers(0, 0xFFFF), st.integers(0, 3 * MAX_RANGES))
def test_any_number_of_zero_ranges_arrives(drive: int, count: int) -> None:
    """More than one message can hold are several."""
    some = [(number * 8192, 4096) for number in range(count)]
    sent = list(answers.zeros(drive, some))
    assert len(sent) == -(-count // MAX_RANGES)
    got = [answer.zeros for answer in whole(b"".join(sent))]
    assert {each for each, _ in got} <= {drive}
    assert [item for _, items in got for item in items] == some


def test_every_flipped_bit_is_found() -> None:
    for bit in range(len(PATH) * 8):
        harmed = bytearray(PATH)
        harmed[bit // 8] ^= 1 << bit % 8
        feed = Feed()
        with pytest.raises(AnswerError):
            feed.give(bytes(harmed) + ENDLESS)
        assert feed.answers == ORDERED[: len(feed.answers)], f"bit {bit}"
        assert len(feed.answers) < len(ORDERED)


def test_what_was_cut_off_yields_what_came_before() -> None:
    for cut in range(len(PATH)):
        got = whole(PATH[:cut])
        assert got == ORDERED[: len(got)]
        assert len(got) < len(ORDERED)


@given(st.binary(max_size=200))
def test_random_bytes_are_refused_or_waited_on(noise: bytes) -> None:
    feed = Feed()
    try:
        feed.give(noise)
    except AnswerError as error:
        said = str(error)
    else:
        said = "the destination's answer is not valid: "
    assert said.startswith("the destination's answer is not valid: ")
    assert feed.answers == []


@pytest.mark.parametrize(
    "message",
    [
        struct.pack(">HH", 1, 4) + bytes(4),  # QEMU's SHUT
        struct.pack(">HH", Type.AGREED, 7) + bytes(7),
        encode(Type.AGREED, b"x"),
        encode(Type.APPLIED, bytes(7)),
        encode(Type.FLUSHED, bytes(9)),
        encode(Type.PREPARED, bytes(15)),
        encode(Type.RUNNING, bytes(2)),
        encode(Type.ZEROS, b""),
        encode(Type.ZEROS, bytes(17)),
    ],
)
def test_a_message_that_makes_no_sense_is_refused(message: bytes) -> None:
    with pytest.raises(AnswerError, match="the destination's answer is not valid"):
        whole(message)


def test_the_largest_message_fits_its_length() -> None:
    (answer,) = whole(encode(Type.REFUSED, b"x" * MAX_BODY))
    assert answer.body == b"x" * MAX_BODY


@given(st.text(st.characters(codec=None), max_size=5000))
def test_any_reason_can_be_said(why: str) -> None:
    """Also one with a file's name that is no UTF-8, and one too long."""
    (answer,) = whole(answers.refused(why))
    assert len(answer.body) <= 4096
    assert bool(answer.text) == bool(answer.body)
    if why.isprintable() and len(why.encode()) <= 4096:
        assert answer.text == why


def send_forever(feed: Callable[[bytes], None], piece: bytes, count: int) -> None:
    for _ in range(count):
        feed(piece)


def test_memory_is_bounded_whatever_comes() -> None:
    """The reader keeps at most one message that is not whole yet."""
    feed = Feed()
    begun = struct.pack(">HH", Type.REFUSED, 0xFFFF)
    feed.give(begun)
    with pytest.raises(AnswerError):
        send_forever(feed.give, bytes(4096), 17)

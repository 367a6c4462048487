"""The stream: what is written is read, however it is cut, and what is not whole and unharmed is refused."""

from __future__ import annotations

import random
import struct
import tracemalloc
from typing import Any

import pytest
import xxhash
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.migration.wire.stream import (
    HEADER,
    MAX_PAYLOAD,
    MAX_ZERO_LENGTH,
    PREAMBLE,
    SECTION_VERSION,
    Kind,
    Mark,
    StreamError,
    checksum_of,
    section_end,
    section_footer,
    section_part,
    section_start,
)
from qmon.migration.wire.writer import IOV_LIMIT, RecordWriter
from tests.support.feeding import ID, Feed, Fill, close, data, stream

HELLO: list[Fill] = [lambda writer: writer.hello(b'{"an": "offer"}')]
SMALL = stream(
    HELLO,
    [
        data(0, 4096, b"some bytes of a disk"),
        lambda writer: writer.zero(1, 1 << 33, 1 << 20),
        lambda writer: writer.flush(),
        lambda writer: writer.progress(12345),
    ],
    ending=data(1, 0, b"the last"),
)
ENDLESS = bytes(4 << 20)
"""More than any item is long: whoever waits for the rest of one has got it."""


def whole(piece: bytes) -> list[tuple[Any, ...]]:
    feed = Feed()
    feed.give(piece)
    return feed.items


ORDERED = whole(SMALL)

fills = st.one_of(
    st.tuples(
        st.just("data"),
        st.integers(0, 0xFFFF),
        st.integers(0, (1 << 64) - 1),
        st.binary(min_size=1, max_size=99),
    ),
    st.tuples(
        st.just("zero"),
        st.integers(0, 0xFFFF),
        st.integers(0, (1 << 64) - 1),
        st.integers(1, MAX_ZERO_LENGTH),
    ),
    st.tuples(st.just("flush")),
    st.tuples(st.just("progress"), st.integers(0, (1 << 64) - 1)),
)


class TestRoundTrip:
    @settings(deadline=None)
    @given(st.lists(st.lists(fills, max_size=6), max_size=4), st.data())
    def test_any_records_arrive_as_sent_wherever_the_stream_is_cut(
        self, parts: list[list[tuple[Any, ...]]], choice: st.DataObject
    ) -> None:
        expected: list[tuple[Any, ...]] = []
        count = 0

        def note(kind: Kind, drive: int, offset: int, length: int, payload: bytes = b"") -> None:
            nonlocal count
            expected.append((kind, drive, offset, length, count, payload))
            count += 1

        def filler(record: tuple[Any, ...]) -> Fill:
            match record:
                case ("data", drive, offset, payload):
                    note(Kind.DATA, drive, offset, len(payload), payload)
                    return data(drive, offset, payload)
                case ("zero", drive, offset, length):
                    note(Kind.ZERO, drive, offset, length)
                    return lambda writer: writer.zero(drive, offset, length)
                case ("progress", remaining):
                    note(Kind.PROGRESS, 0, remaining, 0)
                    return lambda writer: writer.progress(remaining)
            note(Kind.FLUSH, 0, 0, 0)
            return lambda writer: writer.flush()

        note(Kind.HELLO, 0, 0, 15, b'{"an": "offer"}')
        note(Kind.END, 0, 0, 0)
        filled = [HELLO]
        for part in parts:
            filled.append([filler(record) for record in part])
            note(Kind.END, 0, 0, 0)
        sent = stream(*filled)
        feed = Feed()
        cuts = sorted(choice.draw(st.lists(st.integers(0, len(sent)), max_size=8)))
        for start, stop in zip([0, *cuts], [*cuts, len(sent)], strict=True):
            feed.give(sent[start:stop])
        assert feed.items[: len(expected)] == expected
        finish, end, order, heard, eof = feed.items[len(expected) :]
        assert (finish[0], end[0], order[:2]) == (Kind.FINISH, Kind.END, ("go", ID))
        assert (heard, eof) == (("heard", ID), (Mark.EOF,))
        assert feed.reader.at_boundary

    def test_more_may_come_behind_the_last_part_where_the_source_goes_back(self) -> None:
        writer = RecordWriter()
        writer.raw(PREAMBLE + section_start())
        close(writer)
        for ending in (True, False):
            writer.raw(section_end())
            writer.finish(ending)
            close(writer)
            writer.raw(section_part())
            writer.back()
            writer.zero(0, 0, 512)
            close(writer)
        writer.raw(section_end())
        expected = writer.finish(True)
        close(writer)
        items = whole(b"".join(writer.buffers))
        assert [item[0] for item in items] == [
            Kind.END,
            *(2 * [Kind.FINISH, Kind.END, Kind.BACK, Kind.ZERO, Kind.END]),
            Kind.FINISH,
            Kind.END,
        ]
        assert items[-2][5][:16] == struct.pack(">QQ", *expected)

    def test_it_may_be_cut_anywhere(self) -> None:
        for cut in range(len(SMALL) + 1):
            feed = Feed()
            feed.give(SMALL[:cut])
            feed.give(SMALL[cut:])
            assert feed.items == ORDERED

    def test_it_may_come_byte_by_byte(self) -> None:
        feed = Feed()
        for position in range(len(SMALL)):
            feed.give(SMALL[position : position + 1])
        assert feed.items == ORDERED

    @pytest.mark.parametrize("piece_size", [1 << 16, 100_003, MAX_PAYLOAD, 4 << 20])
    def test_large_payloads_arrive_whole(self, piece_size: int) -> None:
        blocks = [random.Random(number).randbytes(MAX_PAYLOAD - number * 4099) for number in range(6)]
        sent = stream(HELLO, *([data(number, 0, block)] for number, block in enumerate(blocks)))
        feed = Feed()
        for start in range(0, len(sent), piece_size):
            feed.give(sent[start : start + piece_size])
        disks = [bytearray(len(block)) for block in blocks]
        for item in feed.items:
            if item[0] is Kind.DATA:
                _, drive, offset, length, _, payload = item
                disks[drive][offset : offset + length] = payload
        assert disks == blocks

    def test_the_digest_is_of_every_record_before_it(self) -> None:
        finish = next(item for item in ORDERED if item[0] is Kind.FINISH)
        records, digest, running, _ = struct.unpack(">QQBQ", finish[5])
        state = xxhash.xxh3_64()
        position = len(PREAMBLE) + len(section_start())
        checksums = []
        for item in ORDERED:
            if isinstance(item[0], Kind):
                position = SMALL.index(
                    struct.pack(">BBHIQQ", item[0], 0, item[1], item[3], item[4], item[2]), position
                )
                checksums.append(SMALL[position - 8 : position])
        for checksum in checksums[:records]:
            state.update(checksum)
        assert records == ORDERED.index(finish)
        assert digest == state.intdigest()
        assert running == 1
        assert ("go", ID, digest) in ORDERED


class TestHarm:
    def test_every_flipped_bit_is_found(self) -> None:
        """Whatever was delivered before it was sent so, and nothing of what comes behind it is taken."""
        for bit in range(len(SMALL) * 8):
            harmed = bytearray(SMALL)
            harmed[bit // 8] ^= 1 << bit % 8
            feed = Feed()
            with pytest.raises(StreamError):
                feed.give(bytes(harmed) + (ENDLESS if self._waits(harmed) else b""))
            assert feed.items == ORDERED[: len(feed.items)], f"bit {bit}"
            assert len(feed.items) < len(ORDERED)

    @staticmethod
    def _waits(harmed: bytearray) -> bool:
        """Whether the reader still waits for more, as it does when a length became greater."""
        try:
            whole(bytes(harmed))
        except StreamError:
            return False
        return True

    def test_what_was_cut_off_yields_what_came_before(self) -> None:
        for cut in range(len(SMALL)):
            items = whole(SMALL[:cut])
            assert items == ORDERED[: len(items)]
            assert len(items) < len(ORDERED)

    @settings(deadline=None)
    @given(st.binary(max_size=400), st.sampled_from([0, len(PREAMBLE), len(PREAMBLE + section_start()), 120]))
    def test_random_bytes_are_refused_or_waited_on(self, noise: bytes, good: int) -> None:
        feed = Feed()
        try:
            feed.give(SMALL[:good] + noise)
        except StreamError as error:
            said = str(error)
        else:
            said = ""
        assert "\n" not in said
        assert [item for item in feed.items if item not in ORDERED] == []

    @settings(deadline=None)
    @given(
        st.integers(0, len(SMALL)),
        st.integers(0, len(SMALL)),
        st.integers(0, len(SMALL)),
        st.binary(max_size=20),
    )
    def test_no_piece_can_be_taken_out_moved_or_put_in(
        self, start: int, stop: int, to: int, put: bytes
    ) -> None:
        piece = SMALL[start:stop]
        rest = SMALL[:start] + SMALL[max(start, stop) :]
        harmed = rest[:to] + piece + put + rest[to:]
        feed = Feed()
        try:
            feed.give(harmed)
        except StreamError:
            assert harmed != SMALL
        if not harmed.startswith(SMALL):
            assert feed.items == ORDERED[: len(feed.items)]
            assert len(feed.items) < len(ORDERED)

    def test_nothing_is_taken_behind_the_end(self) -> None:
        """Also no second order to run."""
        feed = Feed()
        feed.give(SMALL)
        with pytest.raises(StreamError):
            feed.give(SMALL[-60:])
        assert feed.items == ORDERED


def record(
    kind: int, sequence: int, payload: bytes = b"", *, flags: int = 0, length: int | None = None
) -> bytes:
    """One record with a right checksum, whatever it says."""
    size = len(payload) if length is None else length
    head = struct.pack(">BBHIQQ", kind, flags, 0, size, sequence, 0)
    return struct.pack(">Q", checksum_of(head, payload)) + head + payload


LAST_PART = record(Kind.END, 0) + section_footer() + section_end() + record(Kind.END, 1) + section_footer()


class TestRefusals:
    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            (b"GET / HTTP/1.1\r\n\r\n", "at byte 0: an HTTP client has sent 'GET / HTTP/1.1'"),
            (b"hello\x1b[2J", "at byte 0: it begins with 'hello\\x1b[2J', not with b'QEVM'"),
            (b"QEVM\0\0\0\2", "it is QEMU's own stream, or one of another version of qmon"),
            (b"QEVM\0\0\0\3\7\0\0\0\x0fpc-i440fx-7.2\0\0", "it is QEMU's own stream, or one of another"),
            (PREAMBLE + b"\2", "at byte 17: unexpected section type SECTION_PART"),
            (PREAMBLE + b"\3", "unexpected section type SECTION_END"),
            (PREAMBLE + b"\0", "unexpected section type EOF"),
            (PREAMBLE + b"\x08" + bytes(36), "unknown command 0x0000"),
            (PREAMBLE + b"\x99", "unknown section type 0x99"),
            (
                PREAMBLE + section_start().replace(b"disks", b"diskz"),
                "unknown section, expected 'qmon-disks'",
            ),
        ],
    )
    def test_what_is_no_stream_of_ours_is_told_so(self, sent: bytes, said: str) -> None:
        with pytest.raises(StreamError) as caught:
            whole(sent)
        assert said in str(caught.value)
        assert str(caught.value).startswith("not a valid migration stream at byte ")

    def test_another_version_is_told_with_both_numbers(self) -> None:
        with pytest.raises(StreamError) as caught:
            whole(PREAMBLE + section_start()[:-4] + (99).to_bytes(4))
        assert str(caught.value) == (
            f"the source's stream has version 99 and the destination's {SECTION_VERSION}: use the same"
            " version of qmon on both sides"
        )

    @pytest.mark.parametrize(
        ("sent", "said"),
        [
            (record(99, 0), "unknown record kind 99"),
            (record(Kind.ZERO, 0, flags=1), "unknown flags 0x01 in record 0"),
            (record(Kind.ZERO, 1), "record 1 instead of record 0"),
            (record(Kind.DATA, 0, b"x")[:-1] + b"y", "checksum mismatch in record 0"),
            (record(Kind.FINISH, 0, b"x"), "a FINISH of 1 bytes, expected 25"),
            (
                record(Kind.FINISH, 0, bytes(25)),
                "the digest in FINISH differs from that of the received records",
            ),
            (record(Kind.END, 0) + bytes(5), "a section without its footer"),
            (record(Kind.BACK, 0), "BACK came before the last part"),
            (LAST_PART + section_part() + record(Kind.DATA, 2), "DATA came after the last part"),
            (LAST_PART + section_part() + record(Kind.END, 2), "END came after the last part"),
            (LAST_PART + section_end(), "unexpected section type SECTION_END"),
            (
                LAST_PART + section_part() + record(Kind.BACK, 2) + record(Kind.BACK, 3),
                "BACK came before the last part",
            ),
        ],
    )
    def test_a_record_that_makes_no_sense_is_told_so(self, sent: bytes, said: str) -> None:
        with pytest.raises(StreamError, match=said):
            whole(PREAMBLE + section_start() + sent)

    def test_a_record_too_large_is_refused_before_it_has_come(self) -> None:
        header = record(Kind.DATA, 0, length=MAX_PAYLOAD + 1)[: HEADER.size]
        with pytest.raises(
            StreamError, match=f"a record of {MAX_PAYLOAD + 1} bytes, at most {MAX_PAYLOAD} are allowed"
        ):
            whole(PREAMBLE + section_start() + header)

    def test_memory_is_bounded_whatever_comes(self) -> None:
        """A record of the greatest length, piece by piece, and noise behind it, of any amount."""
        begun = PREAMBLE + section_start() + record(Kind.DATA, 0, length=MAX_PAYLOAD)[: HEADER.size]
        feed = Feed()
        noise = memoryview(ENDLESS)
        tracemalloc.start()
        feed.give(begun)
        with pytest.raises(StreamError):
            feed.give(noise)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 1 << 20
        assert len(feed.reader.room()) < 4 << 20


class TestWriter:
    def test_its_size_is_what_is_sent(self) -> None:
        writer = RecordWriter()
        writer.raw(PREAMBLE + section_start())
        writer.hello(b"{}")
        writer.zero(0, 0, 512)
        close(writer)
        assert writer.size == len(b"".join(writer.buffers))
        writer.clear()
        assert (writer.size, writer.buffers, writer.next_sequence) == (0, [], 3)
        assert writer.flush() == 3

    def test_payloads_lie_where_they_were_filled(self) -> None:
        """No copy is made between the disk and the socket."""
        writer = RecordWriter()
        writer.data(0, 0, writer.payload[:4096])
        writer.payload[:5] = b"after"
        assert b"".join(writer.buffers).endswith(b"after" + bytes(4091))

    def test_it_is_full_before_the_system_call_would_be(self) -> None:
        writer = RecordWriter()
        count = 0
        while not writer.is_full:
            writer.data(0, count, writer.payload[:1])
            count += 1
        assert IOV_LIMIT <= len(writer.buffers) < 1024
        writer.clear()
        assert not writer.is_full

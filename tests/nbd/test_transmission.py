"""The transmission phase against a model: whatever is asked, however it arrives, the bytes are right."""

from __future__ import annotations

import errno
import os
import struct
import threading
import time
from dataclasses import dataclass, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.block.node import Buffer
from qmon.nbd.constants import (
    DATA_CHUNK,
    MAX_PAYLOAD,
    REPLY_FLAG_DONE,
    REQUEST,
    STRUCTURED_REPLY_MAGIC,
    Command,
    CommandFlag,
    Error,
    ReplyType,
)
from qmon.nbd.contexts import ALLOCATION, Depth
from qmon.nbd.limits import LARGE_PIECE, MAX_DISCARDED, SMALL_PIECE, Limits
from tests.support.memory import MemoryDisk, MemoryNode
from tests.support.nbd_client import Reply, request
from tests.support.nbd_transmission import connected
from tests.support.thoroughness import examples
from tests.support.waiting import PATIENCE

FUA, NO_HOLE, DF, REQ_ONE = CommandFlag.FUA, CommandFlag.NO_HOLE, CommandFlag.DF, CommandFlag.REQ_ONE
FAST_ZERO = CommandFlag.FAST_ZERO


TINY_PIECE = 1024


SMALL_SLACK = Limits(slack=512)
"""With a tiny piece, buffers so small that long writes, large reads and moved remains are common."""


# A model of what the protocol's document asks for, over a bytearray

SIZE = 8192


@dataclass(frozen=True)
class Asked:
    command: int
    offset: int
    length: int
    flags: int
    fill: int

    def data(self) -> bytes:
        """What a write writes: no part of it looks like another."""
        pattern = bytes((self.fill + number) % 256 for number in range(251))
        return (pattern * (self.length // 251 + 1))[: self.length]

    def encode(self, cookie: int, *, extended: bool) -> bytes:
        has_data = self.command == Command.WRITE or (extended and self.flags & CommandFlag.PAYLOAD_LEN)
        return request(
            self.command,
            self.offset,
            self.length,
            cookie=cookie,
            flags=int(self.flags),
            data=self.data() if has_data else b"",
            extended=extended,
        )


def expected_reply(model: bytearray, asked: Asked, cookie: int, *, mode: str, writable: bool) -> Reply:
    """Change the model as the request should, and say what its reply should be."""
    known = {Command.READ: FUA, Command.WRITE: FUA, Command.FLUSH: FUA, Command.TRIM: FUA}
    known |= {Command.CACHE: FUA, Command.WRITE_ZEROES: FUA | NO_HOLE | CommandFlag.FAST_ZERO}
    if mode != "simple":
        known[Command.READ] = FUA | DF
    if mode == "extended":
        known[Command.WRITE] = FUA | CommandFlag.PAYLOAD_LEN
    end = asked.offset + asked.length
    changes = asked.command in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)
    if asked.command not in known or asked.flags & ~int(known[Command(asked.command)]):
        return Reply(cookie, Error.EINVAL)
    if changes and not writable:
        return Reply(cookie, Error.EPERM)
    if end > len(model):
        writes = asked.command in (Command.WRITE, Command.WRITE_ZEROES)
        return Reply(cookie, Error.ENOSPC if writes else Error.EINVAL)
    if asked.command == Command.READ:
        return Reply(cookie, 0, bytes(model[asked.offset : end]))
    if asked.flags & CommandFlag.FAST_ZERO and asked.length:
        return Reply(cookie, Error.ENOTSUP)  # a bytearray does not say that it is fast
    if changes:
        model[asked.offset : end] = asked.data() if asked.command == Command.WRITE else bytes(asked.length)
    return Reply(cookie, 0)


OFFSETS = st.one_of(st.integers(0, SIZE), st.sampled_from([0, SIZE - 1, SIZE, SIZE + 1, 1 << 63]))
REQUESTS = st.builds(
    Asked,
    command=st.one_of(
        st.sampled_from([Command.READ, Command.WRITE]),
        st.sampled_from([Command.FLUSH, Command.TRIM, Command.WRITE_ZEROES, Command.BLOCK_STATUS, 5, 9]),
    ),
    offset=OFFSETS,
    length=st.one_of(st.integers(0, 600), st.integers(0, SIZE + 10)),
    flags=st.sampled_from([0, 0, 0, 0, 0, 1, 1, 2, 4, 8, 16, 32, 0x8000]),
    fill=st.integers(1, 255),
)


class _Now(MemoryNode):
    """A node that serves some of the plain requests at once."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.read_now = self._read_now
        self.write_now = self._write_now

    def _read_now(self, offset: int, buffer: memoryview) -> bool:
        if offset % 3 == 1:
            return False
        self.read_into(offset, buffer)
        return True

    def _write_now(self, offset: int, data: Buffer) -> bool:
        if offset % 5 == 1:
            return False
        self.write(offset, data)
        return True


@pytest.mark.parametrize("loop", [False, True], ids=["own thread", "loop"])
@pytest.mark.parametrize("mode", ["simple", "structured", "extended"])
@given(data=st.data(), asked=st.lists(REQUESTS, max_size=30), writable=st.sampled_from([True, True, False]))
@settings(max_examples=examples(150), deadline=None)
def test_pipelined_requests_split_anywhere_do_what_the_model_does(
    data: st.DataObject, asked: list[Asked], writable: bool, mode: str, loop: bool
) -> None:
    scale = 16 if loop else 1  # its buffers are larger
    asked = [replace(one, offset=one.offset * scale, length=one.length * scale) for one in asked]
    asked = [one for one in asked if one.offset < 1 << 64]
    disk = MemoryDisk(SIZE * scale)
    disk.memory = _Now(SIZE * scale)
    disk.memory.data[:] = initial = bytes(range(256)) * (SIZE * scale // 256)
    model = bytearray(initial)
    structured, extended = mode == "structured", mode == "extended"
    sent = b"".join(one.encode(cookie, extended=extended) for cookie, one in enumerate(asked))
    expected = [
        expected_reply(model, one, cookie, mode=mode, writable=writable) for cookie, one in enumerate(asked)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)))
    early = data.draw(st.integers(0, min(len(sent), 200)))
    rest = sent[:early]
    with connected(
        disk,
        structured=structured,
        extended=extended,
        writable=writable,
        rest=rest,
        piece=SMALL_PIECE if loop else TINY_PIECE,
        limits=SMALL_SLACK,
        loop=loop,
    ) as client:

        def send() -> None:
            for start, end in zip([early, *cuts], [*cuts, len(sent)], strict=True):
                client.socket.sendall(sent[max(start, early) : max(end, early)])

        sender = threading.Thread(target=send)
        sender.start()
        got = [client.reply(one.length if one.command == Command.READ else 0) for one in asked]
        sender.join()
        client.send(request(Command.DISC, extended=extended))
        assert client.at_end()
    assert got == expected
    if mode == "extended":
        assert [reply.asked for reply in got] == [one.offset for one in asked]
    assert disk.memory.data == model
    durable = [
        one.command == Command.FLUSH or (one.flags & FUA and one.command not in (Command.READ, Command.CACHE))
        for one, reply in zip(asked, expected, strict=True)
        if not reply.error
    ]
    assert bool(disk.memory.calls["flush"]) == any(durable)
    assert disk.memory.calls["flush"] <= sum(map(bool, durable))


@pytest.mark.parametrize("piece", [LARGE_PIECE, SMALL_PIECE], ids=["large", "small"])
@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
def test_the_largest_requests_go_both_ways(structured: bool, piece: int) -> None:
    disk = MemoryDisk(MAX_PAYLOAD + 512)
    pattern = bytes(range(251)) * (MAX_PAYLOAD // 251 + 1)
    data = pattern[:MAX_PAYLOAD]
    with connected(disk, structured=structured, piece=piece) as client:
        assert client.ask(Command.WRITE, 512, data=data, flags=FUA) == Reply(0, 0)
        assert client.ask(Command.READ, 512, MAX_PAYLOAD).data == data
        assert disk.memory.calls["flush"] == 1
        # One byte more is refused, and the connection goes on behind it.
        assert client.ask(Command.WRITE, 0, data=data + b"x").error == Error.EINVAL
        client.send(request(Command.READ, 0, MAX_PAYLOAD + 1))
        assert client.reply().error == Error.EINVAL
        assert client.ask(Command.READ, 0, 512).data == bytes(512)


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (errno.EPERM, Error.EPERM),
        (errno.EROFS, Error.EPERM),
        (errno.EIO, Error.EIO),
        (errno.ENOMEM, Error.ENOMEM),
        (errno.EINVAL, Error.EINVAL),
        (errno.ENOSPC, Error.ENOSPC),
        (errno.EDQUOT, Error.ENOSPC),
        (errno.EFBIG, Error.ENOSPC),
        (errno.ENOTSUP, Error.EIO),
        (errno.EBADF, Error.EIO),
    ],
)
@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
def test_a_failure_of_the_disk_is_told_and_the_next_request_served(
    code: int, told: int, structured: bool
) -> None:
    disk = MemoryDisk()
    calls = {
        "read": request(Command.READ, 0, 512),
        "write": request(Command.WRITE, 0, data=bytes(512)),
        "zero-unmap": request(Command.WRITE_ZEROES, 0, 512),
        "discard": request(Command.TRIM, 0, 512),
        "flush": request(Command.FLUSH),
    }
    with connected(disk, structured=structured) as client:
        for call, asked in calls.items():
            disk.memory.failures = {call: code}
            client.send(asked)
            assert client.reply().error == told, call
            disk.memory.failures = {}
            client.send(asked)
            assert client.reply(512 if call == "read" else 0).error == 0, call


@pytest.mark.parametrize("extended", [False, True], ids=["simple", "extended"])
def test_a_failed_flush_fails_those_that_waited_for_it_and_no_others(extended: bool) -> None:
    disk = MemoryDisk()
    disk.memory.failures = {"flush": errno.EIO}
    with connected(disk, extended=extended) as client:
        client.send(
            request(Command.WRITE, 0, data=b"a" * 512, cookie=1, extended=extended),
            request(Command.WRITE, 512, data=b"b" * 512, cookie=2, flags=FUA, extended=extended),
            request(Command.FLUSH, cookie=3, extended=extended),
            request(Command.WRITE, 1024, data=b"c" * 512, cookie=4, extended=extended),
        )
        assert [client.reply() for _ in range(4)] == [
            Reply(1, 0),
            Reply(2, Error.EIO),
            Reply(3, Error.EIO),
            Reply(4, 0),
        ]
        assert disk.memory.data[:1536] == b"a" * 512 + b"b" * 512 + b"c" * 512


class _BadSector(MemoryNode):
    """A node on which a place can't be read, maybe only after it was read so many times."""

    def __init__(self, size: int, bad: int, good_reads: int = 0) -> None:
        super().__init__(size)
        self.data[:] = bytes(range(256)) * (size // 256)
        self.bad = bad
        self.good_reads = good_reads

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if offset <= self.bad < offset + len(buffer):
            if not self.good_reads:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            self.good_reads -= 1
        super().read_into(offset, buffer)


@pytest.mark.parametrize("flags", [0, DF], ids=["in chunks", "as a whole"])
@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
@pytest.mark.parametrize("bad", [0, 300 << 10, (512 << 10) - 1])
def test_a_long_read_that_fails_anywhere_is_told_and_the_next_request_served(
    structured: bool, flags: int, bad: int
) -> None:
    disk = MemoryDisk()
    disk.memory = _BadSector(512 << 10, bad)
    with connected(disk, structured=structured, piece=SMALL_PIECE) as client:
        flags = flags if structured else 0
        client.send(request(Command.READ, 0, disk.memory.size, flags=flags, cookie=7))
        told = client.reply()
        assert (told.cookie, told.error) == (7, Error.EIO)
        assert client.ask(Command.FLUSH).error == 0
    figures = disk.accounts.total()
    assert (figures.failed_rd_operations, figures.rd_operations) == (1, 0)


def test_a_read_that_fails_behind_the_beginning_of_its_reply_ends_the_connection() -> None:
    disk = MemoryDisk()
    disk.memory = _BadSector(512 << 10, 300 << 10, good_reads=1)
    with connected(disk, piece=SMALL_PIECE) as client:
        client.send(request(Command.READ, 0, disk.memory.size))
        with pytest.raises(ConnectionError):
            client.reply(disk.memory.size)


def test_a_long_read_that_may_not_be_divided_is_one_chunk() -> None:
    disk = MemoryDisk()
    disk.memory.data[:] = os.urandom(disk.memory.size)
    with connected(disk, structured=True, piece=SMALL_PIECE) as client:
        client.send(request(Command.READ, 0, disk.memory.size, flags=DF))
        magic, flags, kind, _, length, offset = DATA_CHUNK.unpack(client.receive(DATA_CHUNK.size))
        assert (magic, flags, kind) == (STRUCTURED_REPLY_MAGIC, REPLY_FLAG_DONE, ReplyType.OFFSET_DATA)
        assert (length, offset) == (8 + disk.memory.size, 0)
        assert client.receive(disk.memory.size) == disk.memory.data


@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
def test_a_long_read_holds_no_gate_while_its_client_does_not_read(structured: bool) -> None:
    disk = MemoryDisk(32 << 20)
    with connected(disk, structured=structured, piece=SMALL_PIECE) as client:
        client.send(request(Command.READ, 0, disk.memory.size))
        time.sleep(0.2)
        assert disk.gate.close("stopped", timeout=PATIENCE)
        disk.gate.open("stopped")
        assert len(client.reply(disk.memory.size).data) == disk.memory.size


def test_a_client_may_stall_within_a_long_write() -> None:
    disk = MemoryDisk(32 << 20)
    whole = request(Command.WRITE, data=b"x" * (1 << 20))
    with connected(disk, piece=SMALL_PIECE, loop=True) as client:
        for piece in (whole[:100_000], whole[100_000:600_000], whole[600_000:]):
            client.send(piece)
            time.sleep(0.1)
        assert client.reply().error == 0
    assert disk.memory.data.count(b"x") == 1 << 20


def test_a_long_read_of_a_disk_that_moves_meanwhile_is_turned_away() -> None:
    disk = MemoryDisk(32 << 20)
    with connected(disk, structured=True, piece=SMALL_PIECE) as client:
        client.send(request(Command.READ, 0, disk.memory.size))
        time.sleep(0.2)
        assert disk.gate.close("stopped", timeout=PATIENCE)
        disk.gate.shut()
        assert client.reply().error == Error.ESHUTDOWN


def test_a_long_write_that_fails_is_taken_to_its_end() -> None:
    disk = MemoryDisk(8 << 20)
    disk.memory.failures = {"write": errno.ENOSPC}
    with connected(disk) as client:
        assert client.ask(Command.WRITE, 0, data=bytes(5 << 20)).error == Error.ENOSPC
        assert disk.memory.calls["write"] == 1
        assert client.ask(Command.READ, 0, 512).data == bytes(512)


def test_no_hole_asks_for_zeros_that_keep_their_storage() -> None:
    disk = MemoryDisk()
    with connected(disk) as client:
        assert client.ask(Command.WRITE_ZEROES, 0, 512, flags=NO_HOLE).error == 0
        assert client.ask(Command.WRITE_ZEROES, 0, 512).error == 0
    assert disk.memory.calls == {"zero": 1, "zero-unmap": 1}


def test_block_status_joins_extents_and_tells_zeros_from_data() -> None:
    disk = MemoryDisk(64 << 10)
    disk.memory.data[4096:8192] = b"x" * 4096
    with connected(disk, structured=True, allocation=True) as client:
        assert client.ask(Command.BLOCK_STATUS, 0, 64 << 10).extents == ((4096, 3), (4096, 0), (56 << 10, 3))
        assert client.ask(Command.BLOCK_STATUS, 5000, 8000).extents == ((3192, 0), (4808, 3))
        assert client.ask(Command.BLOCK_STATUS, 0, 64 << 10, flags=REQ_ONE).extents == ((4096, 3),)
        assert client.ask(Command.BLOCK_STATUS, 0, 100, flags=REQ_ONE).extents == ((100, 3),)
        assert client.ask(Command.BLOCK_STATUS, 0, 0).error == Error.EINVAL
        assert client.ask(Command.BLOCK_STATUS, 0, (64 << 10) + 1).error == Error.EINVAL
        disk.memory.backing = backing = MemoryNode(2048)
        backing.data[:512] = b"y" * 512
        assert client.ask(Command.BLOCK_STATUS, 0, 8192).extents == ((512, 0), (3584, 3), (4096, 0))
        disk.memory.failures = {"extents": errno.EIO}
        assert client.ask(Command.BLOCK_STATUS, 0, 512).error == Error.EIO


def test_a_client_with_extended_headers_chooses_contexts_in_each_request() -> None:
    disk = MemoryDisk(64 << 10)
    contexts = ((1, ALLOCATION), (5, Depth()))
    with connected(disk, extended=True, contexts=contexts) as client:

        def ask(*fields: int, flags: int = 0) -> Reply:
            payload = struct.pack(f">Q{len(fields) - 1}I", *fields)
            return client.ask(Command.BLOCK_STATUS, 512, data=payload, flags=flags)

        both = client.ask(Command.BLOCK_STATUS, 512, 4096)
        assert both.extents == ((4096, 3), (4096, 1))
        assert [chunk.payload[:4] for chunk in both.chunks] == [b"\0\0\0\1", b"\0\0\0\5"]
        assert ask(4096, 5).extents == ((4096, 1),)
        assert ask(4096, 5, 1, flags=REQ_ONE).extents == both.extents
        for wrong in ((4096,), (4096, 5, 5), (4096, 7), (4096, 1, 5, 7), (64 << 10, 1), (0, 1)):
            assert ask(*wrong).error == Error.EINVAL
        assert client.ask(Command.BLOCK_STATUS, 512, data=b"odd").error == Error.EINVAL
        assert client.ask(Command.BLOCK_STATUS, 512, data=bytes(2 << 20)).error == Error.EINVAL
        assert ask(4096, 1).extents == ((4096, 3),)


@pytest.mark.parametrize("extended", [False, True], ids=["compact", "extended"])
def test_a_client_that_announces_more_data_than_any_request_has_is_hung_up_on(extended: bool) -> None:
    with connected(MemoryDisk(), extended=extended) as client:
        client.send(request(Command.WRITE, 0, MAX_DISCARDED + 1, extended=extended))
        assert client.at_end()


@pytest.mark.parametrize("extended", [False, True], ids=["structured", "extended"])
def test_errors_say_why_and_where(extended: bool) -> None:
    disk = MemoryDisk()
    disk.memory = _BadSector(512 << 10, 300 << 10)
    with connected(disk, structured=True, extended=extended, piece=SMALL_PIECE) as client:
        told = client.ask(Command.READ, 512, 400 << 10)
        assert (told.error, told.at, told.text) == (Error.EIO, 512 + (256 << 10), os.strerror(errno.EIO))
        told = client.ask(Command.TRIM, 1 << 20, 512)
        size = disk.memory.size
        assert told.text == f"512 bytes at 1048576 go beyond the export, which has {size} bytes"
        assert client.ask(Command.WRITE, 0, data=b"x", flags=NO_HOLE).text == "WRITE takes no flags 0x2 here"
        assert client.ask(77).text == "request 77 is not offered here"


class _Zeroing(MemoryNode):
    """A node that zeroes whole sectors fast."""

    def zeroes_fast(self, offset: int, length: int, *, unmap: bool) -> bool:
        return unmap and not (offset | length) % 512


def test_a_fast_zero_is_done_at_once_or_not_at_all() -> None:
    disk = MemoryDisk()
    disk.memory = _Zeroing(1 << 20)
    disk.memory.data[:] = initial = b"\x11" * (1 << 20)
    with connected(disk) as client:
        assert client.ask(Command.WRITE_ZEROES, 100, 512, flags=FAST_ZERO).error == Error.ENOTSUP
        assert client.ask(Command.WRITE_ZEROES, 0, 512, flags=FAST_ZERO | NO_HOLE).error == Error.ENOTSUP
        assert disk.memory.data == initial
        assert client.ask(Command.WRITE_ZEROES, 512, 512, flags=FAST_ZERO | FUA).error == 0
    assert disk.memory.data == initial[:512] + bytes(512) + initial[1024:]
    assert disk.memory.calls == {"zero-unmap": 1, "flush": 1}


def test_block_status_of_a_checkered_disk_is_bounded_and_goes_on() -> None:
    disk = MemoryDisk(16 << 10)
    for sector in range(0, 32, 2):
        disk.memory.data[sector * 512] = 1
    found: list[tuple[int, int]] = []
    with connected(disk, structured=True, allocation=True, limits=Limits(extents=8)) as client:
        while (done := sum(length for length, _ in found)) < disk.memory.size:
            extents = client.ask(Command.BLOCK_STATUS, done, disk.memory.size - done).extents
            assert len(extents) == 8
            found += extents
    assert found == [(512, 0), (512, 3)] * 16


def test_block_status_without_its_context_is_invalid() -> None:
    with connected(MemoryDisk(), structured=True) as client:
        assert client.ask(Command.BLOCK_STATUS, 0, 512).error == Error.EINVAL


def test_replies_that_do_not_fit_together_are_sent_one_after_another() -> None:
    disk = MemoryDisk(8 << 20)
    disk.memory.data[:] = bytes(range(256)) * (disk.memory.size // 256)
    with connected(disk) as client:
        lengths = [700 << 10, 700 << 10, 3 << 20, 512, 512, 2 << 20]
        client.send(*(request(Command.READ, 512, length, cookie=n) for n, length in enumerate(lengths)))
        for cookie, length in enumerate(lengths):
            assert client.reply(length) == Reply(cookie, 0, bytes(disk.memory.data[512 : 512 + length]))


def test_what_follows_a_disconnect_is_not_served() -> None:
    disk = MemoryDisk()
    with connected(disk) as client:
        client.send(
            request(Command.WRITE, 0, data=b"a" * 512),
            request(Command.DISC),
            request(Command.WRITE, 512, data=b"b" * 512),
        )
        assert client.reply() == Reply(0, 0)
        assert client.at_end()
    assert disk.memory.data[:1024] == b"a" * 512 + bytes(512)


def test_a_client_that_leaves_within_a_request_changes_nothing() -> None:
    disk = MemoryDisk()
    with connected(disk) as client:
        client.send(request(Command.WRITE, 0, data=b"a" * 4096)[:-1])
    assert not disk.memory.calls["write"]


@given(garbage=st.binary(min_size=REQUEST.size, max_size=300), before=st.integers(0, 2))
@settings(max_examples=examples(50), deadline=None)
def test_garbage_is_hung_up_on_behind_the_replies_that_are_due(garbage: bytes, before: int) -> None:
    with connected(MemoryDisk()) as client:
        client.send(*[request(Command.FLUSH)] * before, b"\xff" + garbage)
        assert [client.reply() for _ in range(before)] == [Reply(0, 0)] * before
        assert client.at_end()

"""The transmission phase against a model: whatever is asked, however it arrives, the bytes are right."""

from __future__ import annotations

import errno
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.nbd.connection import LARGE_PIECE, LIMITS, SMALL_PIECE, Connection, Limits
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
from qmon.nbd.contexts import ALLOCATION
from qmon.nbd.export import Export
from qmon.nbd.handshake import Agreement, ProtocolError
from tests.support.memory import MemoryDisk, MemoryNode
from tests.support.nbd_client import NbdClient, Reply, request

FUA, NO_HOLE, DF, REQ_ONE = CommandFlag.FUA, CommandFlag.NO_HOLE, CommandFlag.DF, CommandFlag.REQ_ONE


@contextmanager
def connected(
    disk: MemoryDisk,
    *,
    structured: bool = False,
    allocation: bool = False,
    writable: bool = True,
    rest: bytes = b"",
    piece: int = LARGE_PIECE,
    limits: Limits = LIMITS,
) -> Iterator[NbdClient]:
    """A client in the transmission phase; at the end the server's thread must have come to its end."""
    ours, theirs = socket.socketpair()
    contexts = tuple(enumerate((ALLOCATION,), 1)) if allocation else ()
    agreement = Agreement(Export("d0", disk, writable), structured, contexts, rest)
    problems: list[Exception] = []

    def run() -> None:
        try:
            Connection(theirs, agreement, disk.accounts.open(), piece, limits).run()
        except (ProtocolError, OSError) as error:
            problems.append(error)
        finally:
            theirs.close()

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    with NbdClient(ours) as client:
        client.structured = structured
        yield client
    thread.join(10)
    assert not thread.is_alive()


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
        return bytes((self.fill + number % 251) % 256 for number in range(self.length))

    def encode(self, cookie: int) -> bytes:
        data = self.data() if self.command == Command.WRITE else b""
        return request(
            self.command, self.offset, self.length, cookie=cookie, flags=int(self.flags), data=data
        )


def expected_reply(model: bytearray, asked: Asked, cookie: int, *, structured: bool, writable: bool) -> Reply:
    """Change the model as the request should, and say what its reply should be."""
    known = {Command.READ: FUA, Command.WRITE: FUA, Command.FLUSH: FUA, Command.TRIM: FUA}
    known[Command.WRITE_ZEROES] = FUA | NO_HOLE
    if structured:
        known[Command.READ] = FUA | DF
    end = asked.offset + asked.length
    changes = asked.command in (Command.WRITE, Command.TRIM, Command.WRITE_ZEROES)
    if asked.command not in known or asked.flags & ~int(known[Command(asked.command)]):
        return Reply(cookie, Error.EINVAL)
    if changes and not writable:
        return Reply(cookie, Error.EPERM)
    if end > SIZE:
        writes = asked.command in (Command.WRITE, Command.WRITE_ZEROES)
        return Reply(cookie, Error.ENOSPC if writes else Error.EINVAL)
    if asked.command == Command.READ:
        return Reply(cookie, 0, bytes(model[asked.offset : end]))
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
    flags=st.sampled_from([0, 0, 0, 0, 1, 1, 2, 4, 8, 16, 0x8000]),
    fill=st.integers(1, 255),
)


@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
@given(data=st.data(), asked=st.lists(REQUESTS, max_size=30), writable=st.sampled_from([True, True, False]))
@settings(max_examples=150, deadline=None)
def test_pipelined_requests_split_anywhere_do_what_the_model_does(
    data: st.DataObject, asked: list[Asked], writable: bool, structured: bool
) -> None:
    disk = MemoryDisk(SIZE)
    disk.memory.data[:] = initial = bytes(range(256)) * (SIZE // 256)
    model = bytearray(initial)
    sent = b"".join(one.encode(cookie) for cookie, one in enumerate(asked))
    expected = [
        expected_reply(model, one, cookie, structured=structured, writable=writable)
        for cookie, one in enumerate(asked)
    ]
    cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)))
    early = data.draw(st.integers(0, min(len(sent), 200)))
    rest = sent[:early]
    with connected(
        disk, structured=structured, writable=writable, rest=rest, piece=TINY_PIECE, limits=SMALL_SLACK
    ) as client:

        def send() -> None:
            for start, end in zip([early, *cuts], [*cuts, len(sent)], strict=True):
                client.socket.sendall(sent[max(start, early) : max(end, early)])

        sender = threading.Thread(target=send)
        sender.start()
        got = [client.reply(one.length if one.command == Command.READ else 0) for one in asked]
        sender.join()
        client.send(request(Command.DISC))
        assert client.at_end()
    assert got == expected
    assert disk.memory.data == model
    durable = [
        one.command == Command.FLUSH or (one.flags & FUA and one.command != Command.READ)
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


def test_a_failed_flush_fails_those_that_waited_for_it_and_no_others() -> None:
    disk = MemoryDisk()
    disk.memory.failures = {"flush": errno.EIO}
    with connected(disk) as client:
        client.send(
            request(Command.WRITE, 0, data=b"a" * 512, cookie=1),
            request(Command.WRITE, 512, data=b"b" * 512, cookie=2, flags=FUA),
            request(Command.FLUSH, cookie=3),
            request(Command.WRITE, 1024, data=b"c" * 512, cookie=4),
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
        assert disk.gate.close("stopped", timeout=5)
        disk.gate.open("stopped")
        assert len(client.reply(disk.memory.size).data) == disk.memory.size


def test_a_long_read_of_a_disk_that_moves_meanwhile_is_turned_away() -> None:
    disk = MemoryDisk(32 << 20)
    with connected(disk, structured=True, piece=SMALL_PIECE) as client:
        client.send(request(Command.READ, 0, disk.memory.size))
        time.sleep(0.2)
        assert disk.gate.close("stopped", timeout=5)
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
@settings(max_examples=50, deadline=None)
def test_garbage_is_hung_up_on_behind_the_replies_that_are_due(garbage: bytes, before: int) -> None:
    with connected(MemoryDisk()) as client:
        client.send(*[request(Command.FLUSH)] * before, b"\xff" + garbage)
        assert [client.reply() for _ in range(before)] == [Reply(0, 0)] * before
        assert client.at_end()

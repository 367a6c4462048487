"""A connection of a drive on an export: replies in any order, and servers that break the protocol."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.block.transfers import Transfer
from qmon.nbd.client_handshake import Agreed
from qmon.nbd.constants import (
    CHUNK,
    EXTENDED_CHUNK,
    EXTENDED_REPLY_MAGIC,
    EXTENDED_REQUEST,
    REQUEST,
    SIMPLE_REPLY,
    SIMPLE_REPLY_MAGIC,
    STRUCTURED_REPLY_MAGIC,
    Command,
    CommandFlag,
    ReplyType,
    TransmissionFlag,
)
from qmon.nbd.link import Link, LinkLostError, Request

LENGTH = 64
AGREED = Agreed(1 << 20, TransmissionFlag.HAS_FLAGS, 1, 1 << 25, {"base:allocation": 7})
EXTENDED = replace(AGREED, extended=True)


def chunk(kind: int, cookie: int, payload: bytes, flags: int = 1) -> bytes:
    return CHUNK.pack(STRUCTURED_REPLY_MAGIC, flags, kind, cookie, len(payload)) + payload


def data(cookie: int, offset: int, content: bytes, flags: int = 1) -> bytes:
    return chunk(ReplyType.OFFSET_DATA, cookie, offset.to_bytes(8, "big") + content, flags)


def a_read(offset: int = 0) -> Request:
    return Request(Command.READ, offset, LENGTH, view=memoryview(bytearray(LENGTH)))


def wide(kind: int, cookie: int, payload: bytes, asked: int = 0, flags: int = 1) -> bytes:
    """A chunk with an extended header."""
    return EXTENDED_CHUNK.pack(EXTENDED_REPLY_MAGIC, flags, kind, cookie, asked, len(payload)) + payload


def wide_status(*extents: tuple[int, int], count: int | None = None, context: int = 7) -> bytes:
    head = struct.pack(">II", context, len(extents) if count is None else count)
    return wide(ReplyType.BLOCK_STATUS_EXT, 1, head + b"".join(struct.pack(">QQ", *each) for each in extents))


def a_status(length: int = 1 << 40) -> Request:
    return Request(Command.BLOCK_STATUS, 0, length)


def answered(reply: bytes, request: Request, agreed: Agreed = AGREED) -> None:
    """Ask a server that replies with these bytes and closes."""
    ours, theirs = socket.socketpair()
    link = Link(ours, ours, agreed)
    theirs.sendall(reply)
    theirs.shutdown(socket.SHUT_WR)
    try:
        link.ask(request)
    finally:
        link.close()
        theirs.close()


def test_replies_of_several_threads_come_in_any_order() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, ours, AGREED)
    requests = [a_read(number * LENGTH) for number in range(8)]
    with ThreadPoolExecutor(len(requests)) as pool:
        asked = [pool.submit(link.ask, each) for each in requests]
        heads = [REQUEST.unpack(theirs.recv(REQUEST.size, socket.MSG_WAITALL)) for _ in requests]
        for _, _, _, cookie, offset, length in reversed(heads):
            theirs.sendall(data(cookie, offset, bytes([offset // LENGTH]) * length))
        for each in asked:
            each.result()
    link.close()
    theirs.close()
    assert [bytes(each.view or b"") for each in requests] == [bytes([number]) * LENGTH for number in range(8)]


@pytest.mark.parametrize(
    "reply",
    [
        b"",
        b"x" * 100,
        data(2, 0, bytes(LENGTH)),
        data(1, 1, bytes(LENGTH)),
        data(1, 0, bytes(LENGTH - 1)),
        data(1, 0, bytes(LENGTH), flags=0) + data(1, 0, bytes(LENGTH)),
        chunk(ReplyType.NONE, 1, b""),
        chunk(ReplyType.OFFSET_HOLE, 1, bytes(8) + (LENGTH + 1).to_bytes(4, "big")),
        chunk(ReplyType.BLOCK_STATUS, 1, bytes(12)),
        chunk(ReplyType.ERROR, 1, b"\0\0\0\5\0\7no"),
    ],
)
def test_a_server_that_breaks_the_protocol_is_left(reply: bytes) -> None:
    with pytest.raises(LinkLostError):
        answered(reply, a_read())


def test_an_error_is_told_with_the_server_s_text() -> None:
    request = a_read()
    answered(chunk(ReplyType.ERROR, 1, b"\0\0\0\5\0\4ill\n"), request)
    assert (request.error, request.text) == (5, r"ill\x0a")


def test_extended_replies_are_taken() -> None:
    request = a_read()
    answered(wide(ReplyType.OFFSET_DATA, 1, bytes(8) + b"x" * LENGTH), request, EXTENDED)
    assert bytes(request.view or b"") == b"x" * LENGTH
    status = a_status()
    answered(wide_status((1 << 35, 3), (1 << 41, 0)), status, EXTENDED)
    assert status.extents == [(1 << 35, 3), ((1 << 40) - (1 << 35), 0)]
    failed = a_read(512)
    answered(wide(ReplyType.ERROR, 1, b"\0\0\0\5\0\3ill", asked=512), failed, EXTENDED)
    assert (failed.error, failed.text) == (5, "ill")


@pytest.mark.parametrize(
    ("reply", "request_"),
    [
        (data(1, 0, bytes(LENGTH)), a_read()),
        (wide(ReplyType.OFFSET_DATA, 1, bytes(8 + LENGTH), asked=1), a_read()),
        (wide(ReplyType.OFFSET_DATA, 1, bytes(8 + LENGTH + 1)), a_read()),
        (SIMPLE_REPLY.pack(SIMPLE_REPLY_MAGIC, 0, 1), Request(Command.FLUSH)),
        (wide_status(), a_status()),
        (wide_status((512, 0), count=2), a_status()),
        (wide_status((512, 0), context=8), a_status()),
        (wide_status((0, 0)), a_status()),
        (wide(ReplyType.BLOCK_STATUS, 1, struct.pack(">III", 7, 512, 0)), a_status()),
    ],
)
def test_a_server_that_breaks_the_extended_protocol_is_left(reply: bytes, request_: Request) -> None:
    request_.again()
    with pytest.raises(LinkLostError):
        answered(reply, request_, EXTENDED)


class Begun:
    """Requests that were begun, as a thread sees them that waits for all."""

    def __init__(self, link: Link, *requests: Request) -> None:
        self.link = link
        self.left = len(requests)
        for each in requests:
            each.on_end = self._ended
            each.transfer = Transfer(each.offset, each.length, None, print, self._wake)
        assert link.begin(requests)

    def _ended(self, request: Request) -> None:
        self.left -= 1

    def _wake(self) -> None:
        """It tries to receive again and again, anyway."""

    def receive(self) -> None:
        """Receive until all have ended."""
        while self.left:
            if self.link.claim():
                self.link.receive()
                self.link.release(self._wake)


def test_requests_that_were_begun_end_while_another_thread_asks() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, ours, AGREED)
    begun = [a_read(number * LENGTH) for number in range(1, 20)]
    asked = a_read(0)

    def serve() -> None:
        heads = [REQUEST.unpack(theirs.recv(REQUEST.size, socket.MSG_WAITALL)) for _ in range(20)]
        for _, _, _, cookie, offset, length in reversed(heads):
            reply = data(cookie, offset, bytes([offset // LENGTH]) * length)
            theirs.sendall(reply[:50])
            theirs.sendall(reply[50:])

    server = threading.Thread(target=serve)
    server.start()
    together = Begun(link, *begun)
    with ThreadPoolExecutor(1) as pool:
        alone = pool.submit(link.ask, asked)
        together.receive()
        alone.result()
    server.join()
    link.close()
    theirs.close()
    assert [bytes(each.view or b"") for each in [asked, *begun]] == [bytes([n]) * LENGTH for n in range(20)]


def test_requests_that_were_begun_end_with_the_connection() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, ours, AGREED)
    requests = [a_read(0), a_read(LENGTH)]
    begun = Begun(link, *requests)
    theirs.sendall(data(1, 0, bytes(LENGTH)))
    theirs.close()
    begun.receive()
    assert [each.is_done for each in requests] == [True, False]
    assert not link.begin([a_read()])
    assert not link.claim()
    link.close()


def test_writes_go_on_while_the_server_waits_for_its_replies_to_be_taken() -> None:
    ours, theirs = socket.socketpair()
    link = Link(ours, ours, EXTENDED)
    size = 8 << 20
    target = memoryview(bytearray(size))
    written = bytearray()

    def serve() -> None:
        head = EXTENDED_REQUEST.unpack(theirs.recv(EXTENDED_REQUEST.size, socket.MSG_WAITALL))
        theirs.sendall(wide(ReplyType.OFFSET_DATA, head[3], bytes(8) + b"r" * size))
        head = EXTENDED_REQUEST.unpack(theirs.recv(EXTENDED_REQUEST.size, socket.MSG_WAITALL))
        assert head[1:3] == (CommandFlag.PAYLOAD_LEN, Command.WRITE)
        written.extend(theirs.recv(size, socket.MSG_WAITALL))
        theirs.sendall(wide(ReplyType.NONE, head[3], b""))

    server = threading.Thread(target=serve)
    server.start()
    begun = Begun(
        link,
        Request(Command.READ, 0, size, view=target),
        Request(Command.WRITE, 0, size, payload=b"w" * size),
    )
    begun.receive()
    server.join()
    link.close()
    theirs.close()
    assert target == b"r" * size
    assert written == b"w" * size


good = data(1, 0, bytes(LENGTH // 2), flags=0) + chunk(
    ReplyType.OFFSET_HOLE, 1, (LENGTH // 2).to_bytes(8, "big") + (LENGTH // 2).to_bytes(4, "big")
)


@given(at=st.integers(0, len(good) - 1), value=st.integers(0, 255), cut=st.integers(0, len(good)))
def test_a_mutated_reply_ends_the_connection_or_is_a_reply(at: int, value: int, cut: int) -> None:
    mutated = (good[:at] + bytes([value]) + good[at + 1 :])[: cut or None]
    with contextlib.suppress(LinkLostError):  # any other exception would end a client's thread
        answered(mutated, a_read())

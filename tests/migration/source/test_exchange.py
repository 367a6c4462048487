"""The source's end of forwarded requests: each is sent once, and fails when its outcome is not known."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from qmon.migration.source.exchange import Exchange
from qmon.migration.source.forward_node import ForwardNode
from qmon.migration.source.forward_request import Request
from qmon.migration.wire.forward import REPLY, REQUEST, Kind, Messages, Operation, pack
from tests.support.waiting import PATIENCE, eventually


class Asked(NamedTuple):
    """A request as the destination sees it."""

    operation: int
    flags: int
    drive: int
    cookie: int
    offset: int
    length: int


class Far:
    """The destination's end: what a test lets it say."""

    def __init__(self) -> None:
        self.socket, other = socket.socketpair()
        self.socket.settimeout(PATIENCE)
        self.ended: list[str] = []
        self.exchange = Exchange(other, self.ended.append)
        self.exchange.start()
        self.node = ForwardNode(self.exchange, 0, 1 << 30, read_only=False)
        self._messages = Messages()
        self._read: list[Asked] = []

    def take(self) -> Asked:
        """The next request."""
        while not self._read:
            count = self.socket.recv_into(self._messages.room())
            assert count, "the source has closed the connection"
            self._messages.filled(count)
            for message in self._messages.items():
                if message.kind == Kind.PING:  # the test was slow
                    continue
                assert message.kind == Kind.REQUESTS
                self._read += [Asked(*record) for record in message.records(REQUEST)[0]]
        return self._read.pop(0)

    def reply(self, cookie: int, code: int = 0, payload: bytes = b"") -> None:
        body = [REPLY.pack(code, cookie, len(payload)), payload]
        self.socket.sendall(b"".join(pack(Kind.REPLIES, body, number=1)))

    def reply_together(self, *replies: tuple[int, int, bytes]) -> None:
        """Several replies in one message: cookie, bytes that are said to be its data, data."""
        records = [REPLY.pack(0, cookie, size) for cookie, size, _ in replies]
        body = [b"".join(records), *(data for _, _, data in replies)]
        self.socket.sendall(b"".join(pack(Kind.REPLIES, body, number=len(replies))))

    def close(self) -> None:
        self.exchange.stop("the test is over")
        self.socket.close()


@pytest.fixture
def far() -> Iterator[Far]:
    made = Far()
    yield made
    made.close()


class Asking(threading.Thread):
    """A thread that reads, and how that ended."""

    def __init__(self, node: ForwardNode, offset: int = 0) -> None:
        super().__init__()
        self.data = bytearray(512)
        self.error: int | None = None
        self._node, self._offset = node, offset
        self.start()

    def run(self) -> None:
        try:
            self._node.read_into(self._offset, memoryview(self.data))
        except OSError as error:
            self.error = error.errno


def test_replies_are_matched_in_any_order(far: Far) -> None:
    asking = [Asking(far.node, offset) for offset in (0, 512, 1024)]
    asked = [far.take() for _ in asking]
    for message in reversed(asked):
        far.reply(message.cookie, payload=bytes([message.offset // 512 + 1]) * 512)
    for number, each in enumerate(asking, 1):
        each.join()
        assert (each.error, bytes(each.data)) == (None, bytes([number]) * 512)
    assert far.exchange.done == 3


def test_one_message_answers_several_requests(far: Far) -> None:
    asking = [Asking(far.node, offset) for offset in (0, 512, 1024)]
    asked = [far.take() for _ in asking]
    far.reply_together(*((each.cookie, 512, bytes([each.offset // 512 + 1]) * 512) for each in asked))
    for number, each in enumerate(asking, 1):
        each.join()
        assert (each.error, bytes(each.data)) == (None, bytes([number]) * 512)


def test_what_stands_behind_a_reply_that_makes_no_sense_fails(far: Far) -> None:
    asking = {offset: Asking(far.node, offset) for offset in (0, 512, 1024, 1536)}
    good, wrong, behind, _ = sorted((far.take() for _ in asking), key=lambda each: each.offset)
    far.reply_together(
        (good.cookie, 512, b"g" * 512), (wrong.cookie, 511, b"w" * 511), (behind.cookie, 512, b"b" * 512)
    )
    for each in asking.values():
        each.join()
    assert [each.error for each in asking.values()] == [None, errno.EIO, errno.EIO, errno.EIO]
    assert [bytes(each.data[:1]) for each in asking.values()] == [b"g", b"\0", b"\0", b"\0"]
    eventually(lambda: len(far.ended) == 1, "it has ended")


def test_an_error_of_the_destination_is_the_clients(far: Far) -> None:
    asking = Asking(far.node)
    far.reply(far.take().cookie, errno.ENOSPC)
    asking.join()
    assert asking.error == errno.ENOSPC


def test_what_is_on_its_way_fails_and_nothing_is_sent_again(far: Far) -> None:
    asking = Asking(far.node)
    assert far.take().operation == Operation.READ
    far.socket.shutdown(socket.SHUT_WR)
    asking.join()
    assert asking.error == errno.EIO
    later = Asking(far.node)
    later.join()
    assert later.error == errno.ESHUTDOWN
    assert far.socket.recv(1) == b"", "nothing was sent again"
    eventually(lambda: far.ended == ["the destination closed the connection"], "the end is told once")


@pytest.mark.parametrize("what", ["unknown cookie", "short read", "not a reply", "garbage"])
def test_what_makes_no_sense_ends_it_without_a_wrong_byte(far: Far, what: str) -> None:
    asking = Asking(far.node)
    cookie = far.take().cookie
    match what:
        case "unknown cookie":
            far.reply(cookie + 1, payload=bytes(512))
        case "short read":
            far.reply(cookie, payload=bytes(511))
        case "not a reply":
            far.socket.sendall(b"".join(pack(Kind.OPEN)))
        case "garbage":
            far.socket.sendall(b"x" * 100)
    asking.join()
    assert asking.error == errno.EIO
    eventually(lambda: len(far.ended) == 1, "it has ended")


def test_a_drive_that_is_given_up_does_not_wait(far: Far) -> None:
    asking = Asking(far.node)
    cookie = far.take().cookie
    far.node.close()
    asking.join()
    assert asking.error == errno.EIO
    far.reply(cookie, payload=b"x" * 512)  # too late, and harmless
    again = Asking(far.node)
    far.reply(far.take().cookie, payload=b"y" * 512)
    again.join()
    assert (again.error, bytes(again.data)) == (None, b"y" * 512)
    assert asking.data == bytes(512)


def test_only_so_many_are_on_their_way(far: Far) -> None:
    writes = [Request(Operation.WRITE, 0, 1 << 20, data=bytes(1 << 20)) for _ in range(20)]
    asking = threading.Thread(target=far.exchange.ask, args=(0, writes))
    asking.start()
    first = [far.take().cookie for _ in range(4)]
    eventually(lambda: far.exchange.in_flight == 4, "one thread has only a part of the room")
    for cookie in first:
        far.reply(cookie)
    for _ in range(16):
        far.reply(far.take().cookie)
    asking.join()
    assert [write.error for write in writes] == [None] * 20

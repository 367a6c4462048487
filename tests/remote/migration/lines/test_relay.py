"""The relay: every byte, in order, both ways at once; each side's end is told; a failure ends both."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import threading
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.remote.migration.lines.relay import Relay
from tests.support.waiting import PATIENCE


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        ours = socket.create_connection(listener.getsockname())
        return ours, listener.accept()[0]


class Ends:
    """A relay between a TCP connection and a Unix socket, and the far ends of both."""

    def __init__(self) -> None:
        self.tcp, near = tcp_pair()
        other, self.unix = socket.socketpair()
        self.near = near
        self.why = ""
        self.ended = threading.Event()
        for sock in (self.tcp, self.unix):
            sock.settimeout(PATIENCE)
        self.relay = Relay(near, other, self._end)

    def _end(self, why: str) -> None:
        assert not self.ended.is_set()
        self.why = why
        self.ended.set()

    def close(self) -> None:
        self.relay.close()
        self.tcp.close()
        self.unix.close()


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = Ends()
    yield made
    made.close()


def read_all(sock: socket.socket, into: list[bytes]) -> None:
    while piece := sock.recv(1 << 16):
        into.append(piece)


def send_and_end(sock: socket.socket, pieces: list[bytes]) -> None:
    for piece in pieces:
        sock.sendall(piece)
    sock.shutdown(socket.SHUT_WR)


sizes = st.lists(st.integers(0, 3 << 20), max_size=6)


@given(sizes, sizes)
def test_every_byte_passes_in_order_both_ways_at_once(there: list[int], back: list[int]) -> None:
    ends = Ends()
    try:
        given_pieces = [[os.urandom(size) for size in each] for each in (there, back)]
        arrived: list[list[bytes]] = [[], []]
        work = [
            threading.Thread(target=send_and_end, args=(ends.tcp, given_pieces[0])),
            threading.Thread(target=send_and_end, args=(ends.unix, given_pieces[1])),
            threading.Thread(target=read_all, args=(ends.unix, arrived[0])),
            threading.Thread(target=read_all, args=(ends.tcp, arrived[1])),
        ]
        for thread in work:
            thread.start()
        for thread in work:
            thread.join()
        assert [b"".join(each) for each in arrived] == [b"".join(each) for each in given_pieces]
        assert ends.ended.wait(PATIENCE)
        assert (ends.why, ends.relay.sent, ends.relay.received) == ("", sum(there), sum(back))
    finally:
        ends.close()


def test_one_sides_end_is_told_and_the_other_side_still_speaks(ends: Ends) -> None:
    ends.tcp.shutdown(socket.SHUT_WR)
    assert ends.unix.recv(1) == b""
    assert not ends.ended.is_set()
    ends.unix.sendall(b"the last word")
    ends.unix.close()
    arrived: list[bytes] = []
    read_all(ends.tcp, arrived)
    assert b"".join(arrived) == b"the last word"
    assert ends.ended.wait(PATIENCE)
    assert ends.why == ""


def test_a_reset_ends_both_directions(ends: Ends) -> None:
    ends.tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    ends.tcp.close()
    assert ends.unix.recv(1) == b""
    assert ends.ended.wait(PATIENCE)
    assert ends.why == "Connection reset by peer"


def test_close_frees_a_relay_whose_reader_is_silent(ends: Ends) -> None:
    ends.tcp.setblocking(False)
    with contextlib.suppress(BlockingIOError):  # all is full
        while True:
            ends.tcp.send(bytes(1 << 20))
    ends.relay.close()
    assert ends.ended.is_set()
    assert ends.why == "it was closed"
    ends.relay.close()


def test_without_descriptors_it_is_not_made_and_both_sockets_are_closed() -> None:
    far, near = tcp_pair()
    other, unix = socket.socketpair()
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    free = os.dup(0)
    os.close(free)
    resource.setrlimit(resource.RLIMIT_NOFILE, (free + 2, limits[1]))  # one pipe, not two
    try:
        with pytest.raises(OSError, match="Too many open files"):
            Relay(near, other, lambda why: None)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    with far, unix:
        assert (far.recv(1), unix.recv(1)) == (b"", b"")

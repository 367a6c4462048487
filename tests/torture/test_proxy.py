"""The torture's own tools do what they say: faults at the byte they name, ledgers that miss nothing."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.guests import Ledger
from tests.support.ports import free_port
from tests.support.proxy import LANDMARKS, Fault, Finder, Place, Proxy, Rule, Way
from tests.support.waiting import PATIENCE, eventually

DATA = random.Random(1).randbytes(300_000)


@contextlib.contextmanager
def carried(*rules: Rule, refuse: float = 0.0) -> Iterator[tuple[Proxy, list[bytes]]]:
    """A proxy before a server that answers each connection with all it got, and what the server got."""
    got: list[bytes] = []
    with socket.create_server(("127.0.0.1", free_port())) as server:

        def serve() -> None:
            with contextlib.suppress(OSError):  # the server is closed: the test is over
                while True:
                    connection, _ = server.accept()
                    with connection:
                        data, _ = drain(connection)
                        got.append(data)
                        with contextlib.suppress(OSError):  # cut by the proxy
                            connection.sendall(data)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            with Proxy(server.getsockname()[1], rules, refuse=refuse) as proxy:
                yield proxy, got
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


def drain(connection: socket.socket) -> tuple[bytes, bool]:
    """All that comes, and whether the connection was reset."""
    data = bytearray()
    try:
        while piece := connection.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        return bytes(data), True
    return bytes(data), False


def exchange(proxy: Proxy, data: bytes = DATA) -> tuple[bytes, bool]:
    """Send through the proxy; return what came back, and whether the connection was reset."""
    with socket.create_connection(("127.0.0.1", proxy.port), PATIENCE) as connection:
        with contextlib.suppress(OSError):  # the rule may cut it
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
        return drain(connection)


@pytest.mark.parametrize("at", [0, 1, 65_535, 65_536, 299_999])
@pytest.mark.parametrize("fault", [Fault.CUT, Fault.RESET, Fault.HANG, Fault.TRUNCATE, Fault.HALF_CLOSE])
def test_what_comes_before_the_place_is_delivered_and_nothing_behind_it(fault: Fault, at: int) -> None:
    with carried(Rule(Place(Way.STREAM, at), fault, seconds=0.05)) as (proxy, got):
        answer, _ = exchange(proxy)
        if fault is Fault.RESET:  # a receiver that is reset may miss what it has not read
            assert not answer
        eventually(lambda: got, "the server has got it")
        assert DATA[:at].startswith(got[0])
        assert fault is Fault.RESET or got[0] == DATA[:at]


@pytest.mark.parametrize("way", list(Way))
@pytest.mark.parametrize("bit", [0, 7])
def test_one_bit_flips(way: Way, bit: int) -> None:
    with carried(Rule(Place(way, 100_000), Fault.FLIP, bit=bit)) as (proxy, got):
        answer, _ = exchange(proxy)
        changed = DATA[:100_000] + bytes([DATA[100_000] ^ 1 << bit]) + DATA[100_001:]
        assert answer == changed
        assert got == [changed if way is Way.STREAM else DATA]


@pytest.mark.parametrize("fault", [Fault.STALL, Fault.DELAY])
def test_a_stall_and_a_delay_lose_nothing(fault: Fault) -> None:
    with carried(Rule(Place(Way.ANSWERS, 1000), fault, seconds=0.2)) as (proxy, _):
        begun = time.monotonic()
        assert exchange(proxy) == (DATA, False)
        assert fault is Fault.DELAY or time.monotonic() - begun >= 0.2


def test_a_reset_is_seen_as_one() -> None:
    with carried(Rule(Place(Way.ANSWERS, 10), Fault.RESET)) as (proxy, _):
        assert exchange(proxy)[1]


def test_each_connection_has_its_rule_and_the_next_ones_none() -> None:
    rules = [Rule(Place(Way.STREAM, at), Fault.CUT) for at in (5, 7)]
    with carried(*rules) as (proxy, got):
        for _ in range(3):
            exchange(proxy, b"0123456789")
        assert got == [b"01234", b"0123456", b"0123456789"]
        assert proxy.acted == rules


def test_connections_are_refused_for_a_while() -> None:
    with carried(Rule(Place(Way.STREAM, 5), Fault.CUT), refuse=1000) as (proxy, _):
        exchange(proxy)
        eventually(lambda: proxy.refuses, "connections are refused")
        with pytest.raises(ConnectionRefusedError):
            exchange(proxy)
        proxy.end_refusal()
        eventually(lambda: not proxy.refuses, "connections are taken again")
        assert exchange(proxy) == (DATA, False)


@given(st.lists(st.integers(1, 40), max_size=20), st.integers(0, 60), st.sampled_from(sorted(LANDMARKS)))
def test_a_landmark_is_found_however_the_bytes_come(cuts: Sequence[int], offset: int, landmark: str) -> None:
    way, pattern = LANDMARKS[landmark]
    data = bytes(100) + pattern + bytes(100)
    finder = Finder(Place(way, offset, landmark))
    position, found = 0, []
    for count in [*cuts, len(data)]:
        piece = data[position : position + count]
        index = finder.feed(piece)
        if index is not None:
            found.append((position, position + index))
        position += len(piece)
    begun, at = found[0]
    assert len(found) == 1
    assert at == max(begun, 100 + offset)


def test_a_ledger_finds_each_write_that_is_not_there() -> None:
    ledger = Ledger(bytes(2048))
    ledger.begin(512, b"a" * 1024)
    ledger.acknowledge(0)
    right = bytes(512) + b"a" * 1024 + bytes(512)
    assert ledger.wrong(right) == []
    assert len(ledger.wrong(bytes(2048))) == 2
    assert len(ledger.wrong(right[:-1] + b"x")) == 1
    assert len(ledger.wrong(right[:1024])) == 1


def test_a_ledger_takes_either_content_of_a_sector_whose_write_was_not_answered() -> None:
    ledger = Ledger(bytes(1024))
    ledger.begin(0, b"a" * 1024)
    for disk in (bytes(1024), b"a" * 1024, b"a" * 512 + bytes(512)):
        assert ledger.wrong(disk) == []
    assert len(ledger.wrong(b"b" * 512 + bytes(512))) == 1
    ledger.begin(0, b"c" * 512)
    ledger.acknowledge(0)
    assert len(ledger.wrong(b"a" * 1024)) == 1
    assert ledger.wrong(b"c" * 512 + b"a" * 512) == []

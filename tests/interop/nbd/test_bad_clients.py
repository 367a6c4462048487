"""Clients that are slow, silent or broken: each harms itself alone, and what the server holds is bounded."""

from __future__ import annotations

import contextlib
import os
import resource
import socket
import struct
from collections.abc import Iterator

import pytest

from qmon.nbd.constants import CLIENT_FLAGS, IHAVEOPT, OPTION, REQUEST, REQUEST_MAGIC, Command, Option
from tests.support.images import KIB, MIB, noise
from tests.support.nbd_client import go_data, option, request
from tests.support.nbd_crowd import Crowd, client_of, clients_of, connect
from tests.support.nbd_house import House, Way
from tests.support.peers import require
from tests.support.process_memory import MEMORY_MAX, peak
from tests.support.processes import Lab, open_descriptors
from tests.support.waiting import eventually

SIZE = 8 * MIB
WAYS = [Way.TCP, Way.UNIX]


@pytest.fixture(params=WAYS, ids=lambda way: way.value)
def way(request: pytest.FixtureRequest) -> Way:
    return Way(request.param)


@pytest.fixture
def fresh(lab: Lab, way: Way) -> Iterator[House]:
    """A server of its own, whose memory is the test's."""
    house = House(lab, way)
    yield house
    assert peak(house.qmon) < MEMORY_MAX
    assert "rror" not in house.qmon.log(), house.qmon.log()


def test_a_hundred_slow_readers_hold_up_none_of_a_hundred_others(fresh: House) -> None:
    disk = fresh.disk(noise(SIZE))
    wanted = [(number * 32 * KIB, MIB) for number in range(4)]
    with (
        clients_of(fresh, disk.name, 100) as slow,
        Crowd(fresh, disk.name, 100, SIZE // 4096 - 100) as others,
    ):
        for client in slow:
            client.send(*(request(Command.READ, *place, cookie=place[0]) for place in wanted))
        others.go_round(20)
        eventually(lambda: len(fresh.qmon.qmp("query-block-exports")) == 1, "the monitor answers")
        for client in slow[::10]:
            for offset, length in wanted:
                reply = client.reply(length)
                assert (reply.cookie, reply.data) == (offset, noise(SIZE)[offset : offset + length])
        others.go_round(5)
        assert peak(fresh.qmon) < MEMORY_MAX


def test_readers_of_the_largest_requests_bind_no_memory(fresh: House) -> None:
    disk = fresh.disk(64 * MIB)
    with (
        clients_of(fresh, disk.name, 50) as chunked,
        clients_of(fresh, disk.name, 50, structured=False) as whole,
        Crowd(fresh, disk.name, 20) as others,
    ):
        for client in [*chunked, *whole]:
            client.send(request(Command.READ, 0, 32 * MIB))
        others.go_round(20)
        assert peak(fresh.qmon) < MEMORY_MAX


def test_half_requests_hold_up_nobody_and_can_be_completed(fresh: House) -> None:
    disk = fresh.disk(SIZE)
    write = request(Command.WRITE, MIB, cookie=7, data=noise(256 * KIB))
    cuts = [1, REQUEST.size - 1, REQUEST.size, REQUEST.size + 1, REQUEST.size + 100 * KIB, len(write) - 1]
    with clients_of(fresh, disk.name, len(cuts)) as halves, Crowd(fresh, disk.name, 20) as others:
        for client, cut in zip(halves, cuts, strict=True):
            client.send(write[:cut])
        others.go_round(10)
        for client, cut in list(zip(halves, cuts, strict=True))[::2]:
            client.send(write[cut:])
            assert client.reply().cookie == 7
        for client in halves[1::2]:
            client.close()
        others.go_round(10)
    assert disk.image.read_bytes()[MIB:][: 256 * KIB] == noise(256 * KIB)


def test_a_handshake_byte_by_byte_is_taken_while_others_are_served(fresh: House) -> None:
    disk = fresh.disk(noise(SIZE))
    talk = CLIENT_FLAGS.pack(3) + option(Option.STRUCTURED_REPLY) + option(Option.GO, go_data(disk.name))
    talk += request(Command.READ, MIB, 512, cookie=5)
    with Crowd(fresh, disk.name, 5) as others, connect(fresh) as slow:
        for byte in talk:
            slow.sendall(bytes([byte]))
            others.go_round()
        received = bytearray()
        while not received.endswith(noise(SIZE)[MIB : MIB + 512]):
            received += slow.recv(4096)


@contextlib.contextmanager
def many_descriptors(process: int, count: int) -> Iterator[None]:
    """Let a process and this one have so many descriptors."""
    before = {each: resource.prlimit(each, resource.RLIMIT_NOFILE) for each in (os.getpid(), process)}
    for each, (soft, hard) in before.items():
        resource.prlimit(each, resource.RLIMIT_NOFILE, (max(soft, count), max(hard, count)))
    try:
        yield
    finally:
        resource.prlimit(os.getpid(), resource.RLIMIT_NOFILE, before[os.getpid()])


def test_a_thousand_silent_connections_keep_nobody_out(lab: Lab, way: Way) -> None:
    house = House(lab, way)
    with many_descriptors(house.qmon.process.pid, 4000), contextlib.ExitStack() as stack:
        disk = house.disk(SIZE)
        before = len(open_descriptors(house.qmon.process.pid))
        with Crowd(house, disk.name, 5) as others:
            silent = [stack.enter_context(connect(house)) for _ in range(1000)]
            others.go_round(10)
            assert len(os.listdir(f"/proc/{house.qmon.process.pid}/task")) < 100, "no thread each"
            with Crowd(house, disk.name, 5) as late:
                late.go_round(10)
            for sock in silent[::2]:
                with contextlib.suppress(ConnectionError):  # it may have been silent for too long by now
                    sock.sendall(CLIENT_FLAGS.pack(3))
            others.go_round(10)
        assert peak(house.qmon) < MEMORY_MAX
        stack.close()
        eventually(
            lambda: len(open_descriptors(house.qmon.process.pid)) <= before + 2, "their sockets are closed"
        )


BROKEN = {
    "no greeting of a client": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "unknown flags": CLIENT_FLAGS.pack(0xFF00),
    "no option": CLIENT_FLAGS.pack(3) + b"\xff" * 64,
    "an export name without end": CLIENT_FLAGS.pack(3) + OPTION.pack(IHAVEOPT, Option.EXPORT_NAME, 1 << 31),
    "an export that is not there": CLIENT_FLAGS.pack(3)
    + OPTION.pack(IHAVEOPT, Option.EXPORT_NAME, 6)
    + b"absent",
}


@pytest.mark.parametrize("house", WAYS, indirect=True, ids=lambda way: way.value)
@pytest.mark.parametrize("what", BROKEN)
def test_a_client_that_breaks_the_handshake_is_cut_off_alone(house: House, what: str) -> None:
    disk = house.disk(SIZE)
    with Crowd(house, disk.name, 3) as others, connect(house) as bad:
        bad.sendall(BROKEN[what])
        with contextlib.suppress(ConnectionResetError):
            while bad.recv(4096):
                others.go_round()
        others.go_round(3)


@pytest.mark.parametrize("house", WAYS, indirect=True, ids=lambda way: way.value)
@pytest.mark.parametrize("what", ["magic", "random"])
def test_a_client_that_breaks_the_protocol_is_cut_off_alone(house: House, what: str) -> None:
    disk = house.disk(noise(SIZE))
    good = request(Command.READ, 0, 512, cookie=1)
    bad = {
        "magic": struct.pack(">IHHQQI", REQUEST_MAGIC ^ 1, 0, Command.WRITE, 2, 0, 512) + b"x" * 512,
        "random": noise(4096, 7),
    }[what]
    with Crowd(house, disk.name, 3, 100) as others, client_of(house, disk.name) as client:
        client.send(good + bad)
        assert client.reply(512).data == noise(SIZE)[:512]
        assert client.at_end()
        others.go_round(3)
    assert disk.image.read_bytes()[:512] == noise(SIZE)[:512]


def test_a_client_that_vanishes_with_its_requests_under_way_leaves_nothing(fresh: House) -> None:
    disk = fresh.disk(noise(SIZE))
    requests = b"".join(request(Command.READ, 0, MIB, cookie=number) for number in range(20))
    with Crowd(fresh, disk.name, 3, 100) as others:
        for _ in range(20):
            with client_of(fresh, disk.name) as client:
                client.send(requests)
                client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        others.go_round(3)

        def connections() -> int:
            (export,) = fresh.qmon.qmp("query-block-exports")
            return int(export["x-qmon-clients"])

        eventually(lambda: connections() == 3, "only the others are left")


SLOW_READERS = """
clients = [nbd.NBD() for _ in range(40)]
for client in clients:
    client.connect_uri(URI)
slow, others = clients[:20], clients[20:]
for client in slow:
    for number in range(4):
        client.aio_pread(nbd.Buffer(1 << 20), number << 20)
for _ in range(2):
    for number, client in enumerate(others):
        client.pwrite(bytes([number]) * 4096, (7 << 20) + number * 4096)
        assert client.pread(4096, (7 << 20) + number * 4096) == bytes([number]) * 4096
for client in slow:
    while client.aio_in_flight():
        client.poll(20000)
print("done")
"""


def test_slow_readers_over_tls_hold_up_nobody(lab: Lab) -> None:
    require("nbdsh")
    house = House(lab, Way.TLS)
    disk = house.disk(noise(SIZE))
    assert house.run("nbdsh", "-c", f"URI = {disk.uri!r}", "-c", SLOW_READERS) == "done\n"
    assert peak(house.qmon) < MEMORY_MAX
    assert "rror" not in house.qmon.log(), house.qmon.log()

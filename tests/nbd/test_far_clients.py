"""Clients of a disk that is far away are served together, by one thread, and none harms another."""

from __future__ import annotations

import enum
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.nbd.constants import Command
from tests.support.far_node import FarDisk
from tests.support.nbd_client import Reply, request
from tests.support.nbd_transmission import together
from tests.support.thoroughness import examples
from tests.support.waiting import PATIENCE, eventually

PART = 256 << 10
"""Bytes of the disk that are one client's alone."""


class Manner(enum.Enum):
    """What a client does when it has sent its requests."""

    READS = "takes its replies"
    IS_LATE = "takes them when all others have ended"
    LEAVES = "closes its end, and takes none"


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(
            [Command.READ, Command.READ, Command.WRITE, Command.WRITE, Command.FLUSH, Command.TRIM]
        ),
        st.one_of(st.integers(1, 5000), st.integers(1, 60_000)),
    ),
    min_size=1,
    max_size=25,
)


@contextmanager
def far(count: int, *, ends: bool = True, seed: int = 0) -> Iterator[FarDisk]:
    disk = FarDisk(count * PART, ends=ends, seed=seed)
    disk.memory.data[:] = bytes(range(256)) * (count * PART // 256)
    yield disk
    disk.memory.close()


def workers(before: list[threading.Thread]) -> int:
    """How many workers have been started since."""
    started = [thread for thread in threading.enumerate() if thread not in before]
    return sum(thread.name.startswith("nbd worker") for thread in started)


def test_small_requests_of_all_clients_are_under_way_without_a_thread_for_each() -> None:
    before = threading.enumerate()
    with far(8, ends=False) as disk, together(disk, 8) as clients:
        for number, client in enumerate(clients):
            at = number * PART
            client.send(request(Command.READ, at, 512, cookie=1), request(Command.WRITE, at, data=b"x" * 512))
        eventually(lambda: len(disk.far.begun) == 16, "all are under way")
        assert workers(before) == 1
        disk.far.let_go()
        for client in clients:
            assert {client.reply({1: 512, 0: 0}).cookie for _ in range(2)} == {0, 1}


def test_a_client_with_a_flush_is_served_beside_others_afterwards() -> None:
    before = threading.enumerate()
    with far(2, ends=False) as disk, together(disk, 2) as (one, two):
        for _ in range(3):
            assert one.ask(Command.FLUSH).error == 0
            for client in (one, two):
                client.send(request(Command.READ, 0, 512))
            eventually(lambda: len(disk.far.begun) == 2, "both are under way")
            disk.far.let_go()
            assert [client.reply(512).error for client in (one, two)] == [0, 0]
        assert workers(before) == 1


def test_a_client_that_breaks_off_ends_when_its_requests_have_and_others_go_on() -> None:
    with far(2, ends=False) as disk, together(disk, 2) as (leaving, staying):
        leaving.send(request(Command.READ, 0, 512))
        eventually(lambda: disk.far.begun, "it is under way")
        disk.far.let_go()
        eventually(lambda: leaving.socket.recv(1, socket.MSG_PEEK), "a reply is there")
        leaving.send(request(Command.WRITE, 0, data=b"x" * 512))
        eventually(lambda: disk.far.begun, "a write is under way")
        leaving.close()  # with a reply that it has not read: the other end gets an error
        staying.send(request(Command.READ, PART, 512))
        eventually(lambda: len(disk.far.begun) == 2, "the other's read is under way")
        assert not disk.gate.close("stopped", timeout=0.1)
        disk.far.let_go()
        assert staying.reply(512).error == 0
        assert disk.gate.close("stopped", timeout=PATIENCE)
        assert disk.memory.data[:512] == b"x" * 512


@given(
    scripts=st.lists(st.tuples(st.sampled_from(Manner), REQUESTS), min_size=2, max_size=5),
    seed=st.integers(0, 1000),
    loses=st.booleans(),
)
@settings(max_examples=examples(60), deadline=None)
def test_each_client_has_its_replies_whatever_others_do(
    scripts: list[tuple[Manner, list[tuple[Command, int]]]], seed: int, loses: bool
) -> None:
    with far(len(scripts), seed=seed) as disk:
        disk.far.loses = loses
        model = bytearray(disk.memory.data)
        with together(disk, len(scripts)) as clients:
            expected: dict[int, dict[int, Reply]] = {}
            senders: list[threading.Thread] = []
            for number, (manner, asked) in enumerate(scripts):
                at, replies, sent = number * PART, {}, []
                for cookie, (command, size) in enumerate(asked):
                    length = 0 if command == Command.FLUSH else size
                    if at + length > (number + 1) * PART:
                        break
                    data = bytes([cookie + 1]) * length if command == Command.WRITE else b""
                    sent.append(request(command, at, length, cookie=cookie, data=data))
                    read = model[at : at + length] if command == Command.READ else b""
                    replies[cookie] = Reply(cookie, 0, bytes(read))
                    if command in (Command.WRITE, Command.TRIM):
                        model[at : at + length] = data or bytes(length)
                    at += length
                expected[number] = replies
                if manner is Manner.LEAVES:
                    clients[number].socket.send(b"".join(sent), socket.MSG_DONTWAIT)
                    clients[number].close()
                else:
                    senders.append(threading.Thread(target=clients[number].send, args=sent))
                    senders[-1].start()
            for turn in (Manner.READS, Manner.IS_LATE):
                for number, (manner, _) in enumerate(scripts):
                    if manner is turn:
                        wanted = expected[number]
                        lengths = {cookie: len(reply.data) for cookie, reply in wanted.items()}
                        got = [clients[number].reply(lengths) for _ in wanted]
                        assert {reply.cookie: reply for reply in got} == wanted
            for sender in senders:
                sender.join()
            assert disk.gate.close("stopped", timeout=PATIENCE)
        for number, (manner, _) in enumerate(scripts):
            if manner is not Manner.LEAVES:
                part = slice(number * PART, (number + 1) * PART)
                assert disk.memory.data[part] == model[part]

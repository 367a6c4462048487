"""One client's requests on a disk that is far away: many are under way, and answered in any order."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qmon.nbd.constants import Command, CommandFlag, Error
from qmon.nbd.limits import LARGE_PIECE, SMALL_PIECE
from tests.support.far_node import FarDisk
from tests.support.nbd_client import Reply, request
from tests.support.nbd_transmission import connected
from tests.support.thoroughness import examples
from tests.support.waiting import PATIENCE, eventually

SIZE = 1 << 20


@contextmanager
def far(*, ends: bool = True, seed: int = 0) -> Iterator[FarDisk]:
    disk = FarDisk(SIZE, ends=ends, seed=seed)
    disk.memory.data[:] = bytes(range(256)) * (SIZE // 256)
    yield disk
    disk.memory.close()


def a_read(cookie: int, offset: int = 0, length: int = 512) -> bytes:
    return request(Command.READ, offset, length, cookie=cookie)


def a_write(cookie: int, offset: int, data: bytes) -> bytes:
    return request(Command.WRITE, offset, cookie=cookie, data=data)


def test_requests_of_one_client_are_under_way_together() -> None:
    with far(ends=False) as disk, connected(disk, loop=True) as client:
        client.send(*(a_read(cookie, 512 * cookie) for cookie in range(8)))
        eventually(lambda: len(disk.far.begun) == 8, "all are under way")
        client.send(*(a_write(cookie, 512 * cookie, bytes([cookie]) * 512) for cookie in range(8, 16)))
        eventually(lambda: len(disk.far.begun) == 16, "more have begun")
        disk.far.let_go()
        replies = [
            client.reply(dict.fromkeys(range(8), 512) | dict.fromkeys(range(8, 16), 0)) for _ in range(16)
        ]
    assert {reply.cookie for reply in replies} == set(range(16))
    assert not any(reply.error for reply in replies)


def test_a_flush_waits_for_what_was_begun_before_it() -> None:
    with far(ends=False) as disk, connected(disk, loop=True) as client:
        client.send(a_write(1, 0, b"x" * 512), request(Command.FLUSH, cookie=2), a_write(3, 512, b"y" * 512))
        eventually(lambda: len(disk.far.begun) == 1, "the write before it has begun")
        assert not disk.far.calls["flush"]
        disk.far.let_go()
        assert [client.reply().cookie for _ in range(2)] == [1, 2]
        eventually(lambda: len(disk.far.begun) == 1, "the write behind it has begun")
        assert disk.memory.calls.total() == 3
        disk.far.let_go()
        assert client.reply() == Reply(3, 0)


REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(
            [Command.READ, Command.READ, Command.WRITE, Command.WRITE, Command.TRIM, Command.FLUSH]
        ),
        st.one_of(st.integers(1, 5000), st.integers(1, 150_000)),
        st.sampled_from([0, 0, 0, 0, CommandFlag.FUA, 0x8000]),
    ),
    max_size=40,
)


@pytest.mark.parametrize("loop", [False, True], ids=["own thread", "loop"])
@pytest.mark.parametrize("mode", ["simple", "structured", "extended"])
@given(data=st.data(), asked=REQUESTS, seed=st.integers(0, 1000), loses=st.booleans())
@settings(max_examples=examples(60), deadline=None)
def test_all_are_answered_and_the_disk_has_what_was_written(
    data: st.DataObject,
    asked: list[tuple[Command, int, int]],
    seed: int,
    loses: bool,
    mode: str,
    loop: bool,
) -> None:
    """Overlapping requests have no order: each one has a part of the disk of its own here."""
    extended = mode == "extended"
    parts: list[tuple[Command, int, int, int]] = []
    position = 0
    for command, length, flags in asked:
        if position + length <= SIZE:
            parts.append((command, position, 0 if command == Command.FLUSH else length, flags))
            position += length
    with far(seed=seed) as disk:
        disk.far.loses = loses
        model = bytearray(disk.memory.data)
        expected: dict[int, Reply] = {}
        sent = b""
        for cookie, (command, offset, length, flags) in enumerate(parts):
            written = bytes([cookie % 251 + 1]) * length if command == Command.WRITE else b""
            sent += request(
                command, offset, length, cookie=cookie, flags=flags, data=written, extended=extended
            )
            error = Error.EINVAL if flags == 0x8000 else 0
            read = bytes(model[offset : offset + length]) if command == Command.READ and not error else b""
            expected[cookie] = Reply(cookie, error, read)
            if not error and command in (Command.WRITE, Command.TRIM):
                model[offset : offset + length] = written or bytes(length)
        cuts = sorted(data.draw(st.sets(st.integers(0, len(sent)), max_size=12)))
        piece = data.draw(st.sampled_from([SMALL_PIECE, LARGE_PIECE]))
        structured = mode == "structured"
        with connected(
            disk, structured=structured, extended=extended, allocation=False, piece=piece, loop=loop
        ) as client:

            def send() -> None:
                for start, end in zip([0, *cuts], [*cuts, len(sent)], strict=True):
                    client.socket.sendall(sent[start:end])

            sender = threading.Thread(target=send)
            sender.start()
            lengths = {
                cookie: length if command == Command.READ else 0
                for cookie, (command, _, length, _) in enumerate(parts)
            }
            got = [client.reply(lengths) for _ in parts]
            sender.join()
            client.send(request(Command.DISC, extended=extended))
            assert client.at_end()
        assert {reply.cookie: reply for reply in got} == expected
        assert disk.memory.data == model


def test_a_failure_is_told_for_the_request_that_failed() -> None:
    with far() as disk, connected(disk, structured=True, loop=True) as client:
        disk.memory.failures["start"] = errno.ENOSPC
        client.send(a_write(1, 0, bytes(512)), a_read(2))
        assert {(reply.cookie, reply.error) for reply in (client.reply(), client.reply())} == {
            (1, Error.ENOSPC),
            (2, Error.ENOSPC),
        }
        del disk.memory.failures["start"]
        assert client.ask(Command.READ, 0, 512).error == 0
        counters = disk.accounts.total()
        assert (counters.failed_wr_operations, counters.rd_operations) == (1, 1)


def test_the_gate_closes_while_a_client_does_not_take_its_replies() -> None:
    with far() as disk, connected(disk, loop=True) as client:
        client.send(*(a_read(cookie, 0, 32 << 10) for cookie in range(200)))
        assert disk.gate.close("stopped", timeout=PATIENCE)
        disk.gate.open("stopped")
        for _ in range(200):
            assert client.reply(32 << 10).error == 0


def test_requests_that_wait_at_the_gate_go_on_when_it_opens() -> None:
    with far() as disk, connected(disk, loop=True) as client:
        assert client.ask(Command.READ, 0, 512).error == 0
        assert disk.gate.close("stopped", timeout=PATIENCE)
        client.send(*(a_read(cookie) for cookie in range(4)))
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.socket.recv(1)
        client.socket.settimeout(PATIENCE)
        disk.gate.open("stopped")
        assert {client.reply(512).cookie for _ in range(4)} == set(range(4))
        assert disk.gate.close("stopped", timeout=PATIENCE)
        client.send(*(a_read(cookie) for cookie in range(4)))
        disk.gate.shut()
        assert {client.reply(0).error for _ in range(4)} == {Error.ESHUTDOWN}


@pytest.mark.parametrize("loop", [False, True], ids=["own thread", "loop"])
def test_replies_that_are_due_reach_a_client_that_has_closed_its_end(loop: bool) -> None:
    with far(ends=False) as disk, connected(disk, loop=loop) as client:
        client.send(a_read(1), a_read(2))
        eventually(lambda: len(disk.far.begun) == 2, "they are under way")
        client.socket.shutdown(socket.SHUT_WR)
        disk.far.let_go()
        assert {client.reply(512).cookie for _ in range(2)} == {1, 2}
        assert client.at_end()


def test_a_client_that_leaves_gives_the_gate_back_when_its_requests_have_ended() -> None:
    with far(ends=False) as disk:
        with connected(disk, loop=True) as client:
            client.send(a_read(1), a_write(2, 0, b"x" * 512))
            eventually(lambda: len(disk.far.begun) == 2, "they are under way")
            client.close()
            assert not disk.gate.close("stopped", timeout=0.1)
            disk.far.let_go()
            assert disk.gate.close("stopped", timeout=PATIENCE)
        assert disk.memory.data[:512] == b"x" * 512


def test_clients_on_one_disk_do_not_wait_for_each_other() -> None:
    with far() as disk, connected(disk, loop=True) as one, connected(disk, loop=True) as two:
        for _ in range(20):
            for client in (one, two):
                client.send(*(a_read(cookie) for cookie in range(16)))
            for client in (one, two):
                assert {client.reply(512).cookie for _ in range(16)} == set(range(16))

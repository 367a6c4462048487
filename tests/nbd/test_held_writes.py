"""A client whose writes are held back: its reads pass them, its writes keep their order, all end in time."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from qmon.block import hold_back
from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.hold_back import Allowance, HoldBackFilter
from qmon.nbd.constants import Command
from tests.support.memory import MemoryNode
from tests.support.nbd_client import NbdClient, Reply, request
from tests.support.nbd_transmission import connected
from tests.support.waiting import PATIENCE, eventually

SIZE = 1 << 20
WRITES = 8
"""Of which each one after the first waits until it is held back no more."""


@pytest.fixture(autouse=True)
def held_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hold_back, "LONGEST_PAUSE_SECONDS", 10 * PATIENCE)


class HeldDisk:
    """A drive whose guests may write next to nothing."""

    def __init__(self) -> None:
        self.memory = MemoryNode(SIZE)
        self.gate, self.accounts, self.allowance = Gate(), Accounts(), Allowance()
        self.allowance.allow(1)
        self.node = HoldBackFilter(self.memory, self.allowance, self.gate, lambda offset, length: length)


@contextmanager
def holding(*, loop: bool = True) -> Iterator[tuple[HeldDisk, NbdClient]]:
    """A client of such a disk that has sent some writes to one place."""
    disk = HeldDisk()
    with connected(disk, loop=loop) as client:
        client.send(*(a_write(number) for number in range(WRITES)))
        eventually(lambda: disk.memory.calls["write"] > 0, "the first one is done")
        yield disk, client
        disk.allowance.allow(0)


def a_write(number: int) -> bytes:
    return request(Command.WRITE, 0, cookie=number, data=bytes([number]) * 512)


def replies(client: NbdClient, count: int) -> list[Reply]:
    expected = dict.fromkeys(range(WRITES), 0) | {100: 512, 200: 0}
    return [client.reply(expected) for _ in range(count)]


@pytest.mark.parametrize("loop", [False, True])
def test_a_read_passes_them(loop: bool) -> None:
    with holding(loop=loop) as (disk, client):
        client.send(request(Command.READ, 4096, 512, cookie=100))
        seen: list[int] = []
        while 100 not in seen:
            seen += [reply.cookie for reply in replies(client, 1)]
        assert len(seen) < WRITES
        disk.allowance.allow(0)
        seen += [reply.cookie for reply in replies(client, WRITES + 1 - len(seen))]
        assert [cookie for cookie in seen if cookie != 100] == list(range(WRITES))
        assert disk.memory.data[:512] == bytes([WRITES - 1]) * 512


def test_a_gate_that_closes_lets_all_of_them_through() -> None:
    with holding() as (disk, client):
        client.send(request(Command.FLUSH, cookie=200))
        assert disk.gate.close("test", PATIENCE)
        assert disk.memory.data[:512] == bytes([WRITES - 1]) * 512
        disk.gate.open("test")
        assert replies(client, WRITES + 1)[-1].cookie == 200


def test_they_go_where_the_disk_is_when_they_are_done() -> None:
    """A filter below may go meanwhile, such as the one that marks for a migration."""
    with holding() as (disk, client):
        disk.node.child = later = MemoryNode(SIZE)
        disk.allowance.allow(0)
        assert len(replies(client, WRITES)) == WRITES
        assert later.data[:512] == bytes([WRITES - 1]) * 512


def test_an_error_reaches_the_one_whose_write_fails() -> None:
    with holding() as (disk, client):
        disk.memory.failures["write"] = errno.ENOSPC
        client.send(request(Command.READ, 4096, 512, cookie=100))
        disk.allowance.allow(0)
        found = replies(client, WRITES + 1)
        failed = [reply.error for reply in found if reply.cookie != 100]
        assert failed[-1] == errno.ENOSPC
        assert next(reply for reply in found if reply.cookie == 100).error == 0


def test_a_client_that_leaves_is_not_waited_for() -> None:
    with holding() as (disk, client):
        client.close()
        disk.allowance.allow(0)

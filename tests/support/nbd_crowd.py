"""Many clients of one NBD server, in one thread: all send their requests before the first reads an answer."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from typing import Self

from qmon.nbd.constants import Command
from tests.support.nbd_client import NbdClient, request
from tests.support.nbd_house import House
from tests.support.waiting import PATIENCE

BLOCK = 4096


def connect(house: House) -> socket.socket:
    """A connection on which nothing has been sent. While the queue of a Unix socket is full it waits."""
    family, address = house.socket_address
    deadline = time.monotonic() + PATIENCE
    while True:
        sock = socket.socket(family)
        sock.settimeout(PATIENCE)
        try:
            sock.connect(address)
        except BlockingIOError:
            sock.close()
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)
        else:
            return sock


def client_of(house: House, export: str, *, structured: bool = True) -> NbdClient:
    """A client that has chosen an export."""
    return NbdClient(connect(house)).go(export, structured=structured)


@contextlib.contextmanager
def clients_of(
    house: House, export: str, count: int, *, structured: bool = True
) -> Iterator[list[NbdClient]]:
    """So many clients of an export; they are closed at the end."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(client_of(house, export, structured=structured)) for _ in range(count)]


class Crowd:
    """Clients that each own a block of a disk, write and read it in rounds, and look at what they get."""

    def __init__(self, house: House, export: str, count: int, first_block: int = 0) -> None:
        self._stack = contextlib.ExitStack()
        self._clients = [self._stack.enter_context(client_of(house, export)) for _ in range(count)]
        self._first = first_block
        self._round = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def go_round(self, rounds: int = 1) -> None:
        """Each client writes its block and reads it; all requests are under way at once."""
        for _ in range(rounds):
            self._round += 1
            for number, client in enumerate(self._clients):
                offset = (self._first + number) * BLOCK
                client.send(
                    request(Command.WRITE, offset, cookie=1, data=self._content(number)),
                    request(Command.READ, offset, BLOCK, cookie=2),
                )
            for number, client in enumerate(self._clients):
                written, read = client.reply(), client.reply(BLOCK)
                assert (written.cookie, written.error) == (1, 0)
                assert (read.cookie, read.error) == (2, 0)
                assert read.data == self._content(number), f"client {number} has read what another wrote"

    def _content(self, number: int) -> bytes:
        return (number << 32 | self._round).to_bytes(8, "big") * (BLOCK // 8)

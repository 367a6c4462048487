"""A client in the transmission phase, without a server and a handshake."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from qmon.nbd.connection import Connection
from qmon.nbd.contexts import ALLOCATION, Context
from qmon.nbd.disk_loop import DiskLoop
from qmon.nbd.export import Disk, Export
from qmon.nbd.handshake import Agreement, ProtocolError
from qmon.nbd.limits import LARGE_PIECE, LIMITS, SMALL_PIECE, Limits
from tests.support.nbd_client import NbdClient
from tests.support.waiting import PATIENCE, eventually


@contextmanager
def connected(
    disk: Disk,
    *,
    structured: bool = False,
    extended: bool = False,
    allocation: bool = False,
    contexts: tuple[tuple[int, Context], ...] = (),
    writable: bool = True,
    rest: bytes = b"",
    piece: int = LARGE_PIECE,
    limits: Limits = LIMITS,
    loop: bool = False,
) -> Iterator[NbdClient]:
    """A client in the transmission phase; at the end the server's thread must have come to its end.

    With ``loop`` the disk's loop and its workers serve it, else a thread of its own.
    """
    ours, theirs = socket.socketpair()
    if allocation:
        contexts = ((1, ALLOCATION),)
    structured = structured or extended
    agreement = Agreement(Export("d0", disk, writable), structured, contexts, rest, extended)
    problems: list[BaseException] = []

    def run() -> None:
        try:
            Connection(theirs, agreement, disk.accounts.open(), piece, limits).run()
        except (ProtocolError, OSError) as error:
            problems.append(error)
        finally:
            theirs.close()

    def run_in_loop() -> None:
        is_over = threading.Event()

        def ended(error: BaseException | None) -> None:
            problems.extend([error] if error else [])
            is_over.set()

        disk_loop = DiskLoop(disk.gate)
        with theirs:
            disk_loop.add(Connection(theirs, agreement, disk.accounts.open(), piece, limits), ended)
            disk_loop.start()
            is_over.wait()
        disk_loop.settle()

    thread = threading.Thread(target=run_in_loop if loop else run, daemon=True)
    thread.start()
    with NbdClient(ours) as client:
        client.structured = structured
        client.extended = extended
        yield client
    thread.join(PATIENCE)
    assert not thread.is_alive()
    assert all(isinstance(problem, (ProtocolError, OSError)) for problem in problems)


@contextmanager
def together(disk: Disk, count: int) -> Iterator[list[NbdClient]]:
    """So many clients of one disk, all served by its loop; at the end its threads must have ended."""
    pairs = [socket.socketpair() for _ in range(count)]
    problems: list[BaseException] = []
    loop = DiskLoop(disk.gate)

    def serve(sock: socket.socket) -> None:
        agreement = Agreement(Export("d0", disk, True), False, (), b"", False)
        connection = Connection(sock, agreement, disk.accounts.open(), SMALL_PIECE)

        def ended(error: BaseException | None) -> None:
            problems.extend([error] if error else [])
            connection.close()
            sock.close()

        loop.add(connection, ended)

    for _, theirs in pairs:
        serve(theirs)
    loop.start()
    clients = [NbdClient(ours) for ours, _ in pairs]
    try:
        yield clients
    finally:
        for client in clients:
            client.close()
    eventually(lambda: loop.is_over, "the loop has ended")
    loop.settle()
    assert all(isinstance(problem, OSError) for problem in problems)

"""The line between two consoles in the tests does what it is told."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

import pytest

from tests.support.ports import free_port
from tests.support.vms.line import HOST, Line
from tests.support.waiting import PATIENCE, eventually


@pytest.fixture
def server() -> Iterator[socket.socket]:
    with socket.create_server((HOST, free_port())) as server:
        server.settimeout(PATIENCE)
        yield server


def joined(server: socket.socket, line: Line) -> tuple[socket.socket, socket.socket]:
    near = socket.create_connection((HOST, line.port), timeout=PATIENCE)
    far, _ = server.accept()
    far.settimeout(PATIENCE)
    return near, far


def everything(sock: socket.socket) -> bytes:
    return b"".join(iter(lambda: sock.recv(1 << 16), b""))


@pytest.mark.parametrize("delay", [0.0, 0.1])
@pytest.mark.parametrize("rate", [None, 200_000.0])
def test_bytes_come_through_and_so_does_the_end(
    server: socket.socket, delay: float, rate: float | None
) -> None:
    data = bytes(range(256)) * 200
    begun = time.monotonic()
    with Line(server.getsockname()[1], free_port(), delay=delay, rate=rate) as line:
        near, far = joined(server, line)
        with near, far:
            near.sendall(data)
            near.shutdown(socket.SHUT_WR)
            assert everything(far) == data
            assert time.monotonic() - begun >= delay + (0.2 if rate else 0.0)
            far.sendall(b"answer")
            far.close()
            assert everything(near) == b"answer"
        assert line.connections == 1


def test_a_line_that_is_cut_resets_its_connections_and_can_be_mended(server: socket.socket) -> None:
    with Line(server.getsockname()[1], free_port()) as line:
        near, far = joined(server, line)
        with near, far:
            line.cut()
            for each in (near, far):
                with pytest.raises(ConnectionResetError):
                    each.recv(10)
            with pytest.raises(ConnectionRefusedError):
                socket.create_connection((HOST, line.port))
            line.mend()
            for each in joined(server, line):
                each.close()
        eventually(lambda: line.connections == 2, "the second connection is counted")

"""Connections to a waiting destination from what need not be a source."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from pathlib import Path

from tests.support.waiting import PATIENCE, connected


@contextlib.contextmanager
def visitor(uri: str, *said: bytes) -> Iterator[socket.socket]:
    """A stranger's connection to a waiting destination."""
    with connected(Path(uri.removeprefix("unix:"))) as sock:
        sock.settimeout(PATIENCE)
        with contextlib.suppress(BrokenPipeError):  # it is sent away by what came first
            for piece in said:
                sock.sendall(piece)
        yield sock


def drained(sock: socket.socket) -> bytes:
    """What the destination answers before it closes."""
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := sock.recv(4096):
            answer += piece
    return answer

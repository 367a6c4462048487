"""Waits for what a program under test does in its own time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 20.0
"""Seconds after which a test gives up."""


def eventually(
    holds: Callable[[], object], wanted: str, patience: float = PATIENCE, pause: float = 0.01
) -> None:
    """Wait until something holds, or say what was wanted; ask every ``pause`` seconds."""
    deadline = time.monotonic() + patience
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError(f"never came true: {wanted}")
        time.sleep(pause)


def connected(path: Path) -> socket.socket:
    """A connection to a Unix socket. Raises OSError."""
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(str(path))
    except BaseException:
        sock.close()
        raise
    return sock


def connect_when_there(path: Path, patience: float = PATIENCE) -> socket.socket:
    """The same, waiting up to ``patience`` seconds for the socket to be there."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return connected(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.01)


def send_all(sock: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send data, and descriptors along with its beginning. Raises OSError."""
    sent = socket.send_fds(sock, [data], descriptors)
    if sent < len(data):
        sock.sendall(data[sent:])

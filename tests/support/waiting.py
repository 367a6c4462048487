"""Waits for what a program under test does in its own time."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

PATIENCE = 60.0
"""Seconds after which a test gives up: long, since a machine may do much else, and only a failure waits."""


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


def is_listened_at(path: Path) -> bool:
    """Whether somebody listens on a Unix socket; nobody is connected to for that.

    Its file is there a moment earlier (Linux, /proc/net/unix: the fourth field has 0x10000 then).
    """
    rows = [row.split() for row in Path("/proc/net/unix").read_text(errors="replace").splitlines()[1:]]
    return any(row[7:] == [str(path)] and int(row[3], 16) & 0x10000 for row in rows)


def send_all(sock: socket.socket, data: bytes, descriptors: Sequence[int] = ()) -> None:
    """Send data, and descriptors along with its beginning. Raises OSError."""
    sent = socket.send_fds(sock, [data], descriptors)
    if sent < len(data):
        sock.sendall(data[sent:])

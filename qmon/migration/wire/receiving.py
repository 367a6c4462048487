"""Sends and receives the messages of forwarded requests, whatever the connection is made of."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Sequence

from qmon.block.node import Buffer
from qmon.migration.wire.security import Line

_DONT_WAIT = int(socket.MSG_DONTWAIT)

TICK_SECONDS = 1
"""How often a thread that waits looks again: only a socket that is shut down wakes it."""

_TICK = struct.pack("@ll", TICK_SECONDS, 0)


def prepare(line: Line) -> None:
    """Set what small messages need, and how long ``receive`` waits at once. Raises OSError."""
    if not isinstance(line, socket.socket):
        return
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
    line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _TICK)
    if line.family != socket.AF_UNIX:
        line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def receive_now(line: Line, room: memoryview) -> int | None:
    """Return how many bytes were received, 0 at the end, None if there are none yet. Raises OSError."""
    if not isinstance(line, socket.socket):
        return line.recv_now(room)
    try:
        return line.recv_into(room, 0, _DONT_WAIT)
    except BlockingIOError:
        return None


def receive(line: Line, room: memoryview, seconds: float) -> int | None:
    """As ``receive_now``, but wait so long for something. Raises OSError."""
    deadline = time.monotonic() + seconds
    while (count := _receive_soon(line, room, seconds)) is None and time.monotonic() < deadline:
        pass
    return count


def _receive_soon(line: Line, room: memoryview, seconds: float) -> int | None:
    """Wait for TICK_SECONDS."""
    if isinstance(line, socket.socket):
        try:
            return line.recv_into(room)
        except BlockingIOError:  # after the time that ``prepare`` has set
            return None
    if (count := line.recv_now(room)) is None:
        poll = select.poll()
        poll.register(line.fileno(), select.POLLIN)
        poll.poll(min(seconds, TICK_SECONDS) * 1000)
    return count


def send_now(line: Line, pieces: Sequence[Buffer]) -> list[Buffer]:
    """Send what can be sent without waiting, if that can be told; return what is left. Raises OSError."""
    if not isinstance(line, socket.socket):
        return list(pieces)
    try:
        sent = line.sendmsg(pieces, (), _DONT_WAIT) if len(pieces) > 1 else line.send(pieces[0], _DONT_WAIT)
    except BlockingIOError:
        return list(pieces)
    return _behind(pieces, sent)


def send_all(line: Line, pieces: Sequence[Buffer]) -> None:
    """Send all. Raises OSError."""
    if not isinstance(line, socket.socket):
        line.sendall(b"".join(pieces))
        return
    while len(pieces) > 1:
        pieces = _behind(pieces, line.sendmsg(pieces))
    if pieces:
        line.sendall(pieces[0])


def _behind(pieces: Sequence[Buffer], sent: int) -> list[Buffer]:
    """Return what is left of pieces of which so many bytes were sent."""
    for number, piece in enumerate(pieces):
        if sent < len(piece):
            return [memoryview(piece)[sent:], *pieces[number + 1 :]]
        sent -= len(piece)
    return []

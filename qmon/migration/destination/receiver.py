"""The stream as it comes from a socket, a batch of items at a time."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

from qmon.migration.wire.reader import Item, StreamReader

LOW_WATER = 512 << 10
"""Bytes to wait for: to be woken for each piece that arrives costs more than copying it."""

PAUSE_MS = 1
"""How long to wait for so many before taking less."""


class Receiver:
    """Reads a blocking socket; for one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = StreamReader()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def next(self, patience: float, before_waiting: Callable[[], None]) -> Iterator[Item] | None:
        """Items of what the socket holds, to be used up before the next call; None at the stream's end.

        ``before_waiting`` is called when nothing has come for a moment. Raises TimeoutError when
        nothing comes for ``patience`` seconds, OSError when the socket fails, and iterating StreamError.
        """
        room = self._reader.room()
        self._poll.poll(PAUSE_MS)
        count = self._receive(room)
        if count is None:
            before_waiting()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
            try:
                if not self._poll.poll(patience * 1000):
                    raise TimeoutError
            finally:
                self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER)
            count = self._receive(room)
        if not count:
            return None
        self._reader.filled(count)
        return self._reader.items()

    def _receive(self, room: memoryview) -> int | None:
        """How many bytes came, 0 at the end, None when there are none yet."""
        try:
            return self._socket.recv_into(room, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

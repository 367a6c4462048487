"""Reads the stream from a socket, one batch of items at a time."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

from qmon.host.secure_line import SecureLine
from qmon.migration.wire.reader import Item, StreamReader

LOW_WATER = 512 << 10
"""Bytes to wait for before reading: waking for each small piece costs more than copying it."""

PAUSE_MS = 1
"""How long to wait for LOW_WATER bytes before reading fewer."""


class Receiver:
    """Reads items from a blocking socket, or from TLS on it. For one thread."""

    def __init__(self, sock: socket.socket, secured: SecureLine | None = None) -> None:
        self._socket = sock
        self._secured = secured
        self._reader = StreamReader()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, LOW_WATER)
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def next(self, patience: float, before_waiting: Callable[[], None]) -> Iterator[Item] | None:
        """Return an iterator over the received items, or None at the stream's end.

        Use up the iterator before the next call; iterating raises StreamError. ``before_waiting`` is called
        when nothing has arrived for a moment. Raises TimeoutError after ``patience`` seconds without data,
        OSError when the socket fails.
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

    def rest(self) -> bytes:
        """Return what was received behind FORWARD. From now on the socket is readable at once."""
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVLOWAT, 1)
        return self._reader.rest()

    def _receive(self, room: memoryview) -> int | None:
        """Return how many bytes were received, 0 at the end, None if there are none yet."""
        if self._secured is not None:
            return self._secured.recv_now(room)
        try:
            return self._socket.recv_into(room, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return None

"""The stream as it comes from a socket, a batch of items at a time."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable, Iterator

from qmon.migration.stream import Item, StreamReader


class Receiver:
    """Reads a blocking socket; for one thread."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = StreamReader()
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def next(self, patience: float, before_waiting: Callable[[], None]) -> Iterator[Item] | None:
        """Items of what the socket holds, to be used up before the next call; None at the stream's end.

        ``before_waiting`` is called when it holds nothing yet. Raises TimeoutError when nothing comes for
        ``patience`` seconds, OSError when the socket fails, and iterating raises StreamError.
        """
        room = self._reader.room()
        try:
            count = self._socket.recv_into(room, 0, socket.MSG_DONTWAIT)
        except BlockingIOError:
            before_waiting()
            if not self._poll.poll(patience * 1000):
                raise TimeoutError from None
            count = self._socket.recv_into(room)
        if not count:
            return None
        self._reader.filled(count)
        return self._reader.items()

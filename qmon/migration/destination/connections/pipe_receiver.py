"""Reads the stream from descriptors that are no socket, one batch of items at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from qmon.host.pipe_line import PipeLine
from qmon.migration.wire.reader import Item, StreamReader


class PipeReceiver:
    """Reads items from a pipe or a file, as ``Receiver`` does from a socket. For one thread."""

    def __init__(self, line: PipeLine) -> None:
        self._line = line
        self._reader = StreamReader()

    def next(self, patience: float, before_waiting: Callable[[], None]) -> Iterator[Item] | None:
        """As ``Receiver.next``."""
        room = self._reader.room()
        count = self._line.recv_now(room)
        while count is None:
            before_waiting()
            if not self._line.wait_readable(patience):
                raise TimeoutError
            count = self._line.recv_now(room)
        if not count:
            return None
        self._reader.filled(count)
        return self._reader.items()

    def rest(self) -> bytes:
        """As ``Receiver.rest``."""
        return self._reader.rest()

"""Reads a stream ahead: one thread receives and checks while another applies what came before."""

from __future__ import annotations

import queue
import socket
import threading

from qmon.errors import QmonError
from qmon.migration.stream import Item, StreamReader

BUFFERS = 3
"""One that is being filled, one that is being applied, and one between them."""


class Receiver:
    """Turns a socket into batches of items. It ends when the socket is shut down."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._reader = StreamReader(BUFFERS)
        self._free = threading.Semaphore(BUFFERS - 1)
        self._batches: queue.SimpleQueue[list[Item] | Exception | None] = queue.SimpleQueue()
        self._holds = False
        self._ended = False
        self._thread = threading.Thread(target=self._run, name="migration-receiver", daemon=True)

    def start(self) -> None:
        """Begin to receive."""
        self._thread.start()

    def next(self, timeout: float) -> list[Item] | None:
        """The next items, None at the stream's end. The batch before must not be used any more.

        Raises StreamError for what is no stream, OSError when the socket failed, TimeoutError when nothing
        came for ``timeout`` seconds.
        """
        if self._holds:
            self._holds = False
            self._free.release()
        try:
            batch = self._batches.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(batch, Exception):
            raise batch
        self._holds = True
        return batch

    def stop(self) -> None:
        """Wait for the thread; the socket has been shut down."""
        self._ended = True
        self._free.release()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._ended:
                self._free.acquire()
                count = self._socket.recv_into(self._reader.room())
                if not count:
                    break
                self._reader.filled(count)
                self._batches.put(list(self._reader.items()))
            self._batches.put(None)
        except (OSError, QmonError) as error:
            self._batches.put(error)

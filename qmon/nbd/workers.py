"""Threads that may wait, for connections whose requests do: the first at once, others when there is work."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable

from qmon.host.threads import Shortage, start_thread
from qmon.nbd.connection import Connection

log = logging.getLogger("qmon.nbd")


class Workers:
    """The workers of one loop, whose thread calls ``give`` and ``end``.

    There are as many as have had work at once. An idle one costs little, and starting one takes long.
    Whoever has been accepted is served: so the first is there before a client is.
    """

    def __init__(self, work: Callable[[Connection], None]) -> None:
        self._work = work
        self._lock = threading.Lock()
        self._given = 0
        """Connections that wait for a worker or have one."""
        self._waiting: queue.SimpleQueue[Connection | None] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._shortage = Shortage(log, "can't start a thread of the NBD server")

    def start(self) -> None:
        """Start the first. Raises OSError, MemoryError."""
        self._start_one()

    def give(self, connection: Connection) -> None:
        """Have ``work`` called for a connection; it may have to wait for another's."""
        with self._lock:
            self._given += 1
            is_short = self._given > len(self._threads)
        if is_short:
            try:
                self._start_one()
            except (OSError, MemoryError) as error:
                self._shortage.tell(error)
            else:
                self._shortage.over()
        self._waiting.put(connection)

    def _start_one(self) -> None:
        thread = threading.Thread(target=self._run, name=f"nbd worker {len(self._threads) + 1}", daemon=True)
        start_thread(thread)
        self._threads.append(thread)

    def _run(self) -> None:
        while (connection := self._waiting.get()) is not None:
            self._work(connection)
            del connection
            with self._lock:
                self._given -= 1

    def end(self) -> None:
        """End the threads; none may have work."""
        for _ in self._threads:
            self._waiting.put(None)
        for thread in self._threads:
            thread.join()

"""A disk in memory that is far away: requests go on by themselves, and end in any order."""

from __future__ import annotations

import os
import queue
import random
import threading
from collections.abc import Sequence

from qmon.block.transfers import Start, Transfer
from tests.support.memory import MemoryDisk, MemoryNode


class FarNode(MemoryNode):
    """Does what it is asked at once, and tells it later: in another order, by another thread.

    Without ``ends`` transfers are held until ``let_go``.
    """

    def __init__(self, size: int, *, ends: bool = True, seed: int = 0) -> None:
        super().__init__(size)
        self.begun: list[Transfer] = []
        """Those that are under way."""
        self.most = 0
        """The most that were under way at a time."""
        self.loses = False
        """Whether transfers are lost, and must be done again."""
        self._ends = ends
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        self._queue: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, name="far", daemon=True)
        self._thread.start()

    @property
    def start(self) -> Start | None:
        return self._start

    def _start(self, transfers: Sequence[Transfer]) -> bool:
        with self._lock:
            for each in transfers:
                each.keep()
                if not self.loses and "start" not in self.failures:
                    (self.write if each.is_write else self.read_into)(each.offset, each.buffer)
            self.begun += transfers
            self.most = max(self.most, len(self.begun))
        if self._ends:
            self._queue.put(True)
        return True

    def let_go(self) -> None:
        """End what is under way."""
        self._queue.put(True)

    def close(self) -> None:
        self._queue.put(False)
        self._thread.join()

    def _run(self) -> None:
        while self._queue.get():
            with self._lock:
                ending, self.begun = self.begun, []
            self._random.shuffle(ending)
            for each in ending:
                code = self.failures.get("start")
                each.end(OSError(code, os.strerror(code)) if code else None, is_lost=self.loses)


class FarDisk(MemoryDisk):
    """A drive of one FarNode."""

    def __init__(self, size: int = 1 << 20, *, ends: bool = True, seed: int = 0) -> None:
        super().__init__(size)
        self.far = FarNode(size, ends=ends, seed=seed)
        self.memory = self.far

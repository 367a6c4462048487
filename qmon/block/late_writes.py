"""Writes that have to wait while the thread that began them does other things: each client's in order."""

from __future__ import annotations

import errno
import heapq
import itertools
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Hashable, Sequence

from qmon.block.node import Node
from qmon.block.together import begin, current
from qmon.block.transfers import Transfer
from qmon.host.threads import start_thread

NAP_SECONDS = 0.05
"""How often the thread looks for writes that are due earlier than those it knows."""


class LateWrites:
    """Does writes when they are due, on a thread that lives while there are some. Thread-safe.

    ``node`` returns where to, at that moment: filters below may have come and gone meanwhile.
    ``pause(transfer)`` returns how many seconds the next write of a client waits: it is asked when the one
    before it is done. ``rest(seconds)`` waits, and returns whether no write is to wait any more.
    """

    def __init__(
        self, node: Callable[[], Node], pause: Callable[[Transfer], float], rest: Callable[[float], bool]
    ) -> None:
        self._node = node
        self._pause = pause
        self._rest = rest
        self._lock = threading.Lock()
        self._lines: dict[Hashable, deque[Transfer]] = {}
        """By client: its writes that wait, in order."""
        self._heads: list[tuple[float, int, Transfer]] = []
        """A heap of the first one of each line, by when it is due."""
        self._numbers = itertools.count()
        self._is_running = False

    def put(self, transfer: Transfer) -> bool:
        """Take a write; return False if it need not wait, or if there is no thread for it."""
        with self._lock:
            if (line := self._lines.get(transfer.wake)) is not None:
                line.append(transfer)
                return True
            if not (seconds := self._pause(transfer)) or not self._has_thread():
                return False
            self._lines[transfer.wake] = deque([transfer])
            self._push(transfer, seconds)
            return True

    def _push(self, transfer: Transfer, seconds: float) -> None:
        heapq.heappush(self._heads, (time.monotonic() + seconds, next(self._numbers), transfer))

    def _has_thread(self) -> bool:
        if not self._is_running:
            try:
                start_thread(threading.Thread(target=self._run, name="held writes", daemon=True))
            except (OSError, MemoryError):
                return False
            self._is_running = True
        return True

    def _run(self) -> None:
        while (left := self._left()) is not None:
            is_over = self._rest(max(0.0, min(left, NAP_SECONDS)))
            if due := self._take(is_all=is_over):
                carry_out(self._node(), due)

    def _left(self) -> float | None:
        """Return the seconds until the next write is due, None if there is none: then the thread ends."""
        with self._lock:
            self._is_running = bool(self._heads)
            return self._heads[0][0] - time.monotonic() if self._heads else None

    def _take(self, *, is_all: bool) -> list[Transfer]:
        """Take the writes that are due, or all of them."""
        found: list[Transfer] = []
        with self._lock:
            while self._heads and (is_all or self._heads[0][0] <= time.monotonic()):
                transfer = heapq.heappop(self._heads)[2]
                line = self._lines[transfer.wake]
                found.append(line.popleft())
                while line and not (seconds := 0.0 if is_all else self._pause(line[0])):
                    found.append(line.popleft())
                if line:
                    self._push(line[0], seconds)
                else:
                    del self._lines[transfer.wake]
        return found


def carry_out(node: Node, transfers: Sequence[Transfer]) -> None:
    """Do transfers one after the other, and tell their ends when all that they wait for together is over."""
    outer = current()
    batch = begin() if outer is None else outer
    try:
        errors = [_failure(node, each) for each in transfers]
    finally:
        if outer is None:
            batch.end()
        else:
            batch.settle()
    for transfer, error in zip(transfers, errors, strict=True):
        transfer.end(error)


def _failure(node: Node, transfer: Transfer) -> OSError | None:
    try:
        if transfer.is_write:
            node.write(transfer.offset, transfer.buffer)
        else:
            node.read_into(transfer.offset, transfer.buffer)
    except MemoryError:
        return OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))
    except OSError as error:
        return error
    return None

"""Work that other threads hand to the migration's thread, because only that thread may send."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, TypeVar

_T = TypeVar("_T")


class WorkQueue:
    """A queue of work. Any thread may call ``submit``; the migration's thread calls the rest.

    ``moved`` is notified at each submission: the migration's thread waits on it whenever it waits.
    """

    def __init__(self) -> None:
        self.moved = threading.Condition()
        self.may_run = False
        """Whether records may be sent now: not before the agreement, and not after FINISH."""
        self._waiting: deque[tuple[Callable[[], Any], Future[Any]]] = deque()
        self._has_ended = False

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Let the migration's thread call ``work``. The future has its result, or is cancelled at the end."""
        future: Future[_T] = Future()
        with self.moved:
            if self._has_ended:
                future.cancel()
            else:
                self._waiting.append((work, future))
                self.moved.notify_all()
        return future

    @property
    def is_due(self) -> bool:
        """Whether there is work that may be done now."""
        return bool(self._waiting) and self.may_run

    def run(self) -> None:
        """Do all work that waits. An error of one goes to the thread that has submitted it."""
        while self._waiting:
            work, future = self._waiting.popleft()
            if not future.set_running_or_notify_cancel():
                continue
            try:
                result = work()
            except Exception as error:  # noqa: BLE001 - it is raised in the thread that waits for the result
                future.set_exception(error)
            else:
                future.set_result(result)

    def end(self) -> None:
        """Cancel all work, also what is submitted later."""
        with self.moved:
            self._has_ended = True
            left, self._waiting = self._waiting, deque()
        for _, future in left:
            future.cancel()

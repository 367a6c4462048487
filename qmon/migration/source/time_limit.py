"""A limit on the time of a block that may hang."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from qmon.errors import QmonError


class TimeLimit:
    """A time limit for a block: ``with TimeLimit(seconds, overdue) as limit:``.

    ``overdue`` is called on a thread of its own when the time is over, even if the block hangs. After the
    block it has returned, or it is never called. Raises QmonError if no thread can be started.
    """

    def __init__(self, seconds: float, overdue: Callable[[], None]) -> None:
        self._deadline = time.monotonic() + seconds
        self._timer = threading.Timer(seconds, overdue)
        self._timer.daemon = True
        self._timer.name = "migration-limit"

    def __enter__(self) -> TimeLimit:
        try:
            self._timer.start()
        except RuntimeError as error:
            raise QmonError("can't start the thread that limits how long guests are paused") from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        self._timer.join()

    @property
    def left(self) -> float:
        """Return the remaining seconds, at least 0."""
        return max(0.0, self._deadline - time.monotonic())

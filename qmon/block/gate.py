"""A gate: it holds a drive's requests while the machine is stopped or the disk is handed over.

Requests enter and leave. The gate is closed while there is at least one reason for it. Closing drains it:
new requests wait outside, those inside finish. A gate that is shut, because the disk has moved, refuses all
waiting and new requests with ESHUTDOWN.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

GONE_CHECK_SECONDS = 0.1
"""How often a waiting thread checks whether its client is still connected."""


class GateShutError(OSError):
    """The disk has moved: this request can't be served here any more."""

    def __init__(self) -> None:
        super().__init__(errno.ESHUTDOWN, os.strerror(errno.ESHUTDOWN))


class WaiterGoneError(OSError):
    """The client of a request that waited at the gate has disconnected."""

    def __init__(self) -> None:
        super().__init__(errno.ECONNABORTED, os.strerror(errno.ECONNABORTED))


class Gate:
    """Thread-safe. ``with gate:`` enters and leaves; a data thread enters once for a batch of requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._changed = threading.Condition(self._lock)
        self._inside = 0
        self._draining = 0
        self._reasons: set[str] = set()
        self._shut = False

    def __enter__(self) -> None:
        self.enter()

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def enter(self, gone: Callable[[], bool] | None = None) -> None:
        """Enter, waiting while the gate is closed; ``leave`` must follow.

        While it waits it calls ``gone`` regularly, which must not block. Raises GateShutError, or
        WaiterGoneError once ``gone`` returns True.
        """
        with self._lock:  # entering the condition would cost more time than all the rest here
            while self._reasons and not self._shut:
                self._changed.wait(None if gone is None else GONE_CHECK_SECONDS)
                if gone is not None and self._reasons and not self._shut and gone():
                    raise WaiterGoneError
            if self._shut:
                raise GateShutError
            self._inside += 1

    def enter_despite(self, why: str, timeout: float) -> None:
        """Enter even if the gate is closed for the reason ``why``; ``leave`` must follow.

        Raises GateShutError, or TimeoutError if it stays closed for another reason for ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._shut or not self._reasons - {why}, timeout):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if self._shut:
                raise GateShutError
            self._inside += 1

    def wait_closing(self, timeout: float) -> bool:
        """From inside: wait at most ``timeout`` seconds; return True at once if it is to be closed."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self._reasons) or self._shut, timeout)

    def leave(self) -> None:
        """Leave after ``enter``."""
        with self._lock:
            self._inside -= 1
            if self._draining and not self._inside:
                self._changed.notify_all()

    def close(self, why: str, timeout: float | None = None) -> bool:
        """Close for the reason ``why`` and wait until nobody is inside.

        Returns whether the gate was drained within ``timeout`` seconds; if not, the reason is removed again.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            self._reasons.add(why)
            self._draining += 1
            if self._inside:
                self._changed.notify_all()  # wake requests that are throttled inside
            try:
                while self._inside:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        self._reasons.discard(why)
                        self._changed.notify_all()
                        return False
                    self._changed.wait(left)
            finally:
                self._draining -= 1
        return True

    def open(self, why: str) -> None:
        """Remove the reason ``why``; the gate opens if it was the last one."""
        with self._changed:
            self._reasons.discard(why)
            self._changed.notify_all()

    def shut(self) -> None:
        """Refuse all waiting and new requests from now on."""
        with self._changed:
            self._shut = True
            self._changed.notify_all()

    def reopen(self) -> None:
        """Undo ``shut``: the disk is served here again."""
        with self._changed:
            self._shut = False
            self._changed.notify_all()

    @property
    def is_shut(self) -> bool:
        """Whether requests are refused."""
        return self._shut

    @property
    def is_open(self) -> bool:
        """Whether a request can enter without waiting."""
        return not self._reasons and not self._shut

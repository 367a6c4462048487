"""A gate: it holds a drive's requests while the machine is stopped or the disk is handed over.

Requests enter and leave. The gate is closed while there is at least one reason for it. Closing drains it:
new requests wait outside, those inside finish. A gate that is shut, because the disk has moved, refuses all
waiting and new requests with ESHUTDOWN. One that forwards, also because the disk has moved, lets them in: the
disk's node sends them to where the disk is.
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
        self._forwards = False
        self._sleeping: set[threading.Event] = set()
        """What throttled requests wait for inside."""
        self._watchers: list[Callable[[], None]] = []
        self._holding_since = 0
        """When the first request began to wait, by ``time.monotonic_ns``; 0 while none waits."""
        self._held_ns = 0
        """The longest wait that has ended since ``take_longest_ns``."""

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
            while self._is_held():
                self._hold()
                self._changed.wait(None if gone is None else GONE_CHECK_SECONDS)
                if gone is not None and self._is_held() and gone():
                    raise WaiterGoneError
            if self._shut:
                raise GateShutError
            self._inside += 1

    def enter_now(self) -> bool:
        """Enter unless the gate is closed, and return whether ``leave`` must follow. Raises GateShutError."""
        with self._lock:
            if self._shut:
                raise GateShutError
            if self._is_held():
                self._hold()
                return False
            self._inside += 1
            return True

    def _is_held(self) -> bool:
        return bool(self._reasons) and not (self._shut or self._forwards)

    def watch(self, watcher: Callable[[], None]) -> None:
        """Have ``watcher``, which must not block, called by any thread when the gate opens or is shut."""
        with self._lock:
            self._watchers.append(watcher)

    def unwatch(self, watcher: Callable[[], None]) -> None:
        """Undo ``watch``; ``watcher`` is not called any more."""
        with self._lock:
            self._watchers.remove(watcher)

    def _hold(self) -> None:
        self._holding_since = self._holding_since or time.monotonic_ns()

    def take_longest_ns(self) -> int:
        """Return how long a request has waited at most since the last call, in nanoseconds; for one caller.

        A request that still waits counts, too.
        """
        with self._lock:
            longest, self._held_ns = self._held_ns, 0
            if self._holding_since:
                longest = max(longest, time.monotonic_ns() - self._holding_since)
            return longest

    def _tell(self) -> None:
        if self._holding_since and not self._is_held():
            self._held_ns = max(self._held_ns, time.monotonic_ns() - self._holding_since)
            self._holding_since = 0
        self._changed.notify_all()
        for watcher in self._watchers:
            watcher()

    def enter_despite(self, why: str, timeout: float) -> None:
        """Enter even if the gate is closed for the reason ``why``; ``leave`` must follow.

        Raises GateShutError if the disk has moved, or TimeoutError if it stays closed for another reason for
        ``timeout`` seconds.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self.has_moved or not self._reasons - {why}, timeout):
                raise TimeoutError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))
            if self.has_moved:
                raise GateShutError
            self._inside += 1

    def wait_closing(self, timeout: float, woken: threading.Event | None = None) -> bool:
        """From inside: wait at most ``timeout`` seconds, or until ``woken`` is set.

        If the gate is to be closed, it returns True at once.
        """
        woken = woken or threading.Event()
        with self._lock:
            if self._reasons or self._shut:
                return True
            self._sleeping.add(woken)
        begun = time.monotonic_ns()
        woken.wait(timeout)
        with self._lock:
            self._held_ns = max(self._held_ns, time.monotonic_ns() - begun)
            self._sleeping.discard(woken)
            return bool(self._reasons) or self._shut

    def _hurry(self) -> None:
        for woken in self._sleeping:
            woken.set()

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
                self._hurry()
            try:
                while self._inside:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        self._reasons.discard(why)
                        self._tell()
                        return False
                    self._changed.wait(left)
            finally:
                self._draining -= 1
        return True

    def open(self, why: str) -> None:
        """Remove the reason ``why``; the gate opens if it was the last one."""
        with self._changed:
            self._reasons.discard(why)
            self._tell()

    def shut(self) -> None:
        """Refuse all waiting and new requests from now on."""
        with self._changed:
            self._shut = True
            self._hurry()
            self._tell()

    def forward(self) -> None:
        """Admit requests, whatever the reasons: the disk's node sends them on. ``shut`` ends it."""
        with self._changed:
            self._forwards = True
            self._tell()

    def reopen(self) -> None:
        """Undo ``shut`` and ``forward``: the disk is served here again."""
        with self._changed:
            self._shut = self._forwards = False
            self._tell()

    @property
    def is_shut(self) -> bool:
        """Whether requests are refused."""
        return self._shut

    @property
    def has_moved(self) -> bool:
        """Whether the disk is elsewhere: requests are refused or forwarded."""
        return self._shut or self._forwards

    @property
    def is_closed(self) -> bool:
        """Whether requests must wait."""
        return self._is_held()

    @property
    def is_open(self) -> bool:
        """Whether a request can enter without waiting."""
        return not self._shut and not self._is_held()

"""Who receives the replies to forwarded requests: the threads that wait for some, in turn, or a keeper.

So no thread has to wake another one for each reply. The keeper is a thread that receives when nobody else
does: while a send takes long, since the destination may wait for that, and when no request is on its way.
"""

from __future__ import annotations

import os
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from qmon.host.threads import start_thread
from qmon.migration.source.forward_request import Waiter
from qmon.migration.wire.security import Line

TICK_SECONDS = 1.0
"""How often the keeper looks whether the destination is alive."""

QUIET_SECONDS = 0.5
"""After so long without a request on its way the keeper waits for the end of the line, or a sign of life."""


class Received(Protocol):
    """The exchange, as its turns see it."""

    @property
    def has_ended(self) -> bool:
        """Whether nothing is to be received any more."""

    @property
    def in_flight(self) -> int:
        """How many requests are on their way."""

    def receive(self, seconds: float) -> None:
        """Receive what is there, or comes within so long."""

    def look(self) -> None:
        """Look whether the destination is alive."""

    def another_waits(self, wake: Callable[[], None] | None) -> Callable[[], None] | None:
        """Return the ``wake`` of a thread that waits for a reply, other than this one."""

    def broken(self) -> None:
        """The keeper's thread ends by an internal error."""


class Turns:
    """The carrier of an exchange's transfers. For any thread.

    Closes the line when the exchange has ended and nobody receives.
    """

    has_more = False

    def __init__(self, line: Line, exchange: Received) -> None:
        self._line = line
        self._exchange = exchange
        self.can_be_claimed = isinstance(line, socket.socket)
        """Whether threads that wait may receive. With TLS, or by pipes, only the keeper does."""
        self._changed = threading.Condition(threading.Lock())
        self._is_receiving = False
        self._senders = 0
        """Threads whose sends take long."""
        self._busy_at = 0.0
        self._keeper_idles = False
        self._kick = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._keeper = threading.Thread(target=self._keep, name="forward-keeper", daemon=True)

    def start(self) -> None:
        """Start the keeper. Raises OSError; then the line is closed."""
        try:
            start_thread(self._keeper)
        except BaseException:
            self._close()
            raise

    def join(self) -> None:
        """Wait until the line is closed, unless this is the keeper."""
        if threading.current_thread() is not self._keeper and self._keeper.ident is not None:
            self._keeper.join()

    def claim(self) -> bool:
        """Become the thread that receives, if none is: then ``release`` must follow."""
        with self._changed:
            if self._is_receiving or self._exchange.has_ended or not self.can_be_claimed:
                return False
            self._is_receiving = True
            return True

    def release(self, wake: Callable[[], None] | None) -> None:
        """Leave the receiving to another thread, other than the one that ``wake`` wakes."""
        with self._changed:
            self._is_receiving = False
            if self._senders or self._exchange.has_ended:
                self._changed.notify_all()
        if (another := self._exchange.another_waits(wake)) is not None:
            another()

    def fileno(self) -> int:
        return self._line.fileno()

    def receive(self) -> None:
        """Receive what is there, between ``claim`` and ``release``."""
        self._exchange.receive(0)

    def wait(self, waiter: Waiter) -> None:
        """Wait until a thread's requests have ended, and receive if nobody else does."""
        while not waiter.is_over:
            if not self.claim():
                waiter.wait()
                continue
            try:
                while not (waiter.is_over or self._exchange.has_ended):
                    self._exchange.receive(TICK_SECONDS)
            finally:
                self.release(waiter.wake)

    def busy(self) -> None:
        """A request is on its way: the thread that waits for it will receive."""
        self._busy_at = time.monotonic()
        if self._keeper_idles:
            self._keeper_idles = False
            os.eventfd_write(self._kick, 1)

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Let the keeper receive if nobody else does: this thread sends, and that takes long."""
        with self._changed:
            self._senders += 1
            self._changed.notify_all()
        try:
            yield
        finally:
            with self._changed:
                self._senders -= 1

    def ended(self) -> None:
        """The exchange has ended."""
        with self._changed:
            self._changed.notify_all()

    # The keeper

    def _keep(self) -> None:
        try:
            while not self._exchange.has_ended:
                with self._changed:
                    self._changed.wait_for(self._is_called, TICK_SECONDS)
                    is_mine = self._is_wanted()
                    self._is_receiving |= is_mine
                if is_mine:
                    self._receive_for_others()
                self._exchange.look()
        except BaseException:
            self._exchange.broken()
            raise
        finally:
            with self._changed:
                self._changed.wait_for(lambda: not self._is_receiving)
            self._close()

    def _close(self) -> None:
        self._line.close()
        os.close(self._kick)

    def _is_called(self) -> bool:
        return self._exchange.has_ended or self._is_wanted()

    def _is_wanted(self) -> bool:
        """Whether the keeper has to receive: nobody else does."""
        if self._is_receiving or self._exchange.has_ended:
            return False
        return bool(self._senders) or not self.can_be_claimed or self._is_quiet()

    def _is_quiet(self) -> bool:
        return not self._exchange.in_flight and time.monotonic() - self._busy_at > QUIET_SECONDS

    def _receive_for_others(self) -> None:
        poll = select.poll()
        poll.register(self._line.fileno(), select.POLLIN)
        poll.register(self._kick, select.POLLIN)
        try:
            while not self._exchange.has_ended:
                with self._changed:
                    self._keeper_idles = self.can_be_claimed and not self._senders
                    if self._keeper_idles and not self._is_quiet():
                        break
                events = {number for number, _ in poll.poll(TICK_SECONDS * 1000)}
                if self._kick in events:
                    os.eventfd_read(self._kick)
                if self._line.fileno() in events or not self.can_be_claimed:
                    self._exchange.receive(0)
                self._exchange.look()
        finally:
            self._keeper_idles = False
            self.release(None)

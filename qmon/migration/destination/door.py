"""Accepts a destination's connections. One gets a thread only when it has sent something.

A port scanner, a health check or a flood of connections takes only descriptors, and these only for a moment.
It can't keep out a source: a source sends at once, and silent connections are closed to make room for it.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from qmon.errors import reason
from qmon.host.threads import Shortage, start_thread
from qmon.migration.destination.session import no_hello
from qmon.migration.patience import Patience
from qmon.migration.wire import answers

log = logging.getLogger("qmon.migration")

MAX_SILENT = 64
"""The most connections that have sent nothing yet. For one more the oldest is closed."""

AGAIN_SECONDS = 0.05
"""How long to wait when there is no room for a connection that has sent something."""

RETRY_SECONDS = 0.5
"""How long to wait when descriptors or memory are short and no silent connection can be closed."""


@dataclass(frozen=True, slots=True)
class _Visitor:
    socket: socket.socket
    name: str
    deadline: float


class Door:
    """Accepts connections on its own thread until it is closed. Shortages of descriptors do not stop it.

    It calls ``let_in(socket, name)`` on that thread for a connection that has sent something. If that returns
    False, for lack of room, it is called again later. If it raises OSError or MemoryError, only that
    connection is closed.
    """

    def __init__(
        self, listener: socket.socket, let_in: Callable[[socket.socket, str], bool], patience: Patience
    ) -> None:
        """Takes over the listener. Raises OSError if no thread can be started."""
        self._listener = listener
        self._let_in = let_in
        self._patience = patience
        self._silent: dict[int, _Visitor] = {}
        """Connections that have sent nothing yet, by descriptor, oldest first."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="migration-incoming", daemon=True)
        listener.setblocking(False)
        try:
            start_thread(self._thread)
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        """Stop accepting, and close silent connections. Blocks for a moment; idempotent."""
        self._closed.set()
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        shortage = Shortage(log, "incoming migration: can't accept a connection")
        while not self._closed.is_set():
            try:
                self._look()
                shortage.over()
            except (OSError, MemoryError) as error:
                if self._closed.is_set():
                    break
                shortage.tell(error)
                self._closed.wait(AGAIN_SECONDS if self._silent else RETRY_SECONDS)
                self._dismiss_oldest()  # it may free what is short
        while self._silent:
            self._dismiss_oldest("the destination does not listen any more")

    def _look(self) -> None:
        """Wait for an event and handle it. Raises the error of a failed accept."""
        poll = select.poll()
        for descriptor in (self._listener.fileno(), *self._silent):
            poll.register(descriptor, select.POLLIN)
        ready = dict(poll.poll(self._patience_ms()))
        # First those that have sent something: accepting another one might close them.
        for descriptor in [each for each in self._silent if each in ready]:
            if not self._hear(descriptor):
                self._closed.wait(AGAIN_SECONDS)
                break
        for visitor in list(self._silent.values()):
            if visitor.deadline <= time.monotonic():
                self._dismiss_oldest(f"{no_hello(self._patience)}: it has sent nothing")
        if self._listener.fileno() in ready:
            self._accept()

    def _patience_ms(self) -> float | None:
        """Return how long to wait for data in milliseconds; None means without limit."""
        oldest = next(iter(self._silent.values()), None)
        return None if oldest is None else max(0.0, oldest.deadline - time.monotonic()) * 1000 + 1

    def _accept(self) -> None:
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:  # it has disconnected
            return
        if len(self._silent) >= MAX_SILENT:
            self._dismiss_oldest()
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"
        self._silent[sock.fileno()] = _Visitor(sock, name, time.monotonic() + self._patience.hello)

    def _hear(self, descriptor: int) -> bool:
        visitor = self._silent[descriptor]
        try:
            if not self._let_in(visitor.socket, visitor.name):
                return False
        except (OSError, MemoryError) as error:
            self._dismiss(visitor, reason(error))
        del self._silent[descriptor]
        return True

    def _dismiss_oldest(self, why: str = "it sent nothing, and its place was needed") -> None:
        for descriptor in list(self._silent)[:1]:
            self._dismiss(self._silent.pop(descriptor), why)

    @staticmethod
    def _dismiss(visitor: _Visitor, why: str) -> None:
        log.warning("incoming migration: connection from %s closed: %s", visitor.name, why)
        with contextlib.suppress(OSError):  # it may have disconnected
            visitor.socket.send(answers.dismissed(why), socket.MSG_DONTWAIT)
        visitor.socket.close()

"""Accepts a destination's connections. One gets a thread only when it has sent what a source sends at once.

A port scanner, a health check or a flood of connections takes only descriptors, and these only for a moment.
It can't keep out a source: those that have sent too little are closed to make room for it.
"""

from __future__ import annotations

import contextlib
import logging
import select
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from qmon.errors import reason
from qmon.host.threads import Shortage, start_thread
from qmon.migration.destination.connections.arrival import no_hello
from qmon.migration.patience import Patience
from qmon.migration.wire import answers
from qmon.migration.wire.stream import OPENING_SIZE, may_begin

log = logging.getLogger("qmon.migration")

MAX_SILENT = 64
"""The most connections that have not sent enough yet. For one more the oldest is closed."""

MAX_AT_ONCE = 16
"""The most connections that are accepted before it is seen which of them have sent something."""

AGAIN_SECONDS = 0.05
"""The longest wait for room for a connection that has sent something, until it is tried again."""

RETRY_SECONDS = 0.5
"""How long to wait when descriptors or memory are short and no silent connection can be closed."""


@dataclass(frozen=True, slots=True)
class _Visitor:
    socket: socket.socket
    name: str
    deadline: float


class Door:
    """Accepts connections on its own thread until it is closed. Shortages of descriptors do not stop it.

    It calls ``let_in(socket, name)`` on that thread for a connection that has sent enough. If that returns
    False, for lack of room, it is called again after ``has_room``, and no more connections are accepted until
    then. If it raises OSError or MemoryError, only that connection is closed.
    """

    def __init__(
        self, listener: socket.socket, let_in: Callable[[socket.socket, str], bool], patience: Patience
    ) -> None:
        """Takes over the listener. Raises OSError if no thread can be started."""
        self._listener = listener
        self._let_in = let_in
        self._patience = patience
        self._silent: dict[int, _Visitor] = {}
        """Connections that have sent nothing yet, or too little, by descriptor, oldest first."""
        self._spoken: deque[_Visitor] = deque()
        """Connections that have sent something and wait for room, oldest first."""
        self._closed = threading.Event()
        self._has_room = threading.Event()
        self._thread = threading.Thread(target=self._run, name="migration-incoming", daemon=True)
        listener.setblocking(False)
        try:
            self._poll = select.epoll()
            self._poll.register(listener, select.EPOLLIN)
            start_thread(self._thread)
        except BaseException:
            listener.close()
            raise

    def has_room(self) -> None:
        """There is room for a connection again. For any thread; returns at once."""
        self._has_room.set()

    def close(self) -> None:
        """Stop accepting, and close silent connections. Blocks for a moment; idempotent."""
        self._closed.set()
        self._has_room.set()
        with contextlib.suppress(OSError):  # closed already
            self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()
        self._poll.close()

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
        for visitor in [*self._silent.values(), *self._spoken]:
            self._dismiss(visitor, "the destination does not listen any more")

    def _look(self) -> None:
        """Wait for an event and handle it. Raises the error of a failed accept."""
        has_visitor = False
        for descriptor, event in self._poll.poll(self._patience_seconds()):
            if descriptor == self._listener.fileno():
                has_visitor = True
            elif event & ~select.EPOLLIN or not self._is_waiting(self._silent[descriptor]):
                self._poll.unregister(descriptor)
                self._spoken.append(self._silent.pop(descriptor))
        for visitor in list(self._silent.values()):
            if visitor.deadline <= time.monotonic():
                self._dismiss_oldest(no_hello(self._patience))
        self._has_room.clear()
        while self._spoken:
            if not self._hear(self._spoken[0]):
                self._has_room.wait(AGAIN_SECONDS)
                return
            self._spoken.popleft()
        for _ in range(MAX_AT_ONCE if has_visitor else 0):
            if not self._accept():
                break

    def _patience_seconds(self) -> float:
        """Return how long to wait for an event; -1 means without limit."""
        if self._spoken:
            return 0
        oldest = next(iter(self._silent.values()), None)
        return -1 if oldest is None else max(0.0, oldest.deadline - time.monotonic()) + 0.001

    @staticmethod
    def _is_waiting(visitor: _Visitor) -> bool:
        """Whether a source has more to send before it is worth a thread."""
        try:
            return may_begin(visitor.socket.recv(OPENING_SIZE, socket.MSG_PEEK | socket.MSG_DONTWAIT))
        except BlockingIOError:
            return True
        except OSError:  # its session reports it
            return False

    def _accept(self) -> bool:
        """Accept a connection; return whether there was one."""
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:  # there is none, or it has disconnected
            return False
        if len(self._silent) >= MAX_SILENT:
            self._dismiss_oldest()
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"
        visitor = _Visitor(sock, name, time.monotonic() + self._patience.hello)
        try:
            self._poll.register(sock, select.EPOLLIN | select.EPOLLRDHUP | select.EPOLLET)
        except (OSError, MemoryError):
            sock.close()
            raise
        self._silent[sock.fileno()] = visitor
        return True

    def _hear(self, visitor: _Visitor) -> bool:
        try:
            return self._let_in(visitor.socket, visitor.name)
        except (OSError, MemoryError) as error:
            self._dismiss(visitor, reason(error))
            return True

    def _dismiss_oldest(self, why: str = "it offered no migration, and its place was needed") -> None:
        for descriptor in list(self._silent)[:1]:
            self._dismiss(self._silent.pop(descriptor), why)

    @staticmethod
    def _dismiss(visitor: _Visitor, why: str) -> None:
        log.warning("incoming migration: connection from %s closed: %s", visitor.name, why)
        with contextlib.suppress(OSError):  # it may have disconnected
            visitor.socket.send(answers.dismissed(why), socket.MSG_DONTWAIT)
        visitor.socket.close()

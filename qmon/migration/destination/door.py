"""The door of a destination: it lets in who speaks, and has the silent wait.

A port scanner, a health check or a flood costs a descriptor for a moment, and neither a thread nor a source
its turn: a source speaks at once, and whoever does not makes room for it.
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
from qmon.migration.destination.session import HELLO_TIMEOUT, NO_HELLO
from qmon.migration.wire import answers

log = logging.getLogger("qmon.migration")

MAX_SILENT = 64
"""Connections of which nothing has come yet; for one more the oldest has to go."""

AGAIN_SECONDS = 0.05
"""How long to wait where there is no room for one that speaks."""

RETRY_SECONDS = 0.5
"""The same where descriptors or memory are short, and nobody is here who could make room."""


@dataclass(frozen=True, slots=True)
class _Visitor:
    socket: socket.socket
    name: str
    deadline: float


class Door:
    """Accepts connections on a thread of its own, whatever is short for a moment, until it is closed.

    ``let_in(socket, name)`` is called on that thread with a connection of which something has come, and says
    whether there was room; otherwise it is called again. What it raises of OSError and MemoryError costs
    that connection only.
    """

    def __init__(self, listener: socket.socket, let_in: Callable[[socket.socket, str], bool]) -> None:
        """The listener is the door's from now on. Raises OSError when there is no thread for it."""
        self._listener = listener
        self._let_in = let_in
        self._silent: dict[int, _Visitor] = {}
        """By descriptor, the oldest first."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name="migration-incoming", daemon=True)
        listener.setblocking(False)
        try:
            start_thread(self._thread)
        except BaseException:
            listener.close()
            raise

    def close(self) -> None:
        """Accept nobody any more; who was silent so far is sent away. Blocks for a moment; idempotent."""
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
                self._dismiss_oldest()  # what is short may be what it holds
        while self._silent:
            self._dismiss_oldest("no migration is awaited any more")

    def _look(self) -> None:
        """Wait for something to happen, and see to it. Raises what keeps a connection from being accepted."""
        poll = select.poll()
        for descriptor in (self._listener.fileno(), *self._silent):
            poll.register(descriptor, select.POLLIN)
        ready = dict(poll.poll(self._patience_ms()))
        # First who has been here: with one that comes behind it, it might be sent away.
        for descriptor in [each for each in self._silent if each in ready]:
            if not self._hear(descriptor):
                self._closed.wait(AGAIN_SECONDS)
                break
        for visitor in list(self._silent.values()):
            if visitor.deadline <= time.monotonic():
                self._dismiss_oldest(NO_HELLO)
        if self._listener.fileno() in ready:
            self._accept()

    def _patience_ms(self) -> float | None:
        """How long nothing needs to be done unless somebody speaks; None for ever."""
        oldest = next(iter(self._silent.values()), None)
        return None if oldest is None else max(0.0, oldest.deadline - time.monotonic()) * 1000 + 1

    def _accept(self) -> None:
        try:
            sock, peer = self._listener.accept()
        except BlockingIOError:  # it has gone again
            return
        if len(self._silent) >= MAX_SILENT:
            self._dismiss_oldest()
        name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"
        self._silent[sock.fileno()] = _Visitor(sock, name, time.monotonic() + HELLO_TIMEOUT)

    def _hear(self, descriptor: int) -> bool:
        visitor = self._silent[descriptor]
        try:
            if not self._let_in(visitor.socket, visitor.name):
                return False
        except (OSError, MemoryError) as error:
            self._dismiss(visitor, reason(error))
        del self._silent[descriptor]
        return True

    def _dismiss_oldest(self, why: str = "it said nothing, and others came") -> None:
        for descriptor in list(self._silent)[:1]:
            self._dismiss(self._silent.pop(descriptor), why)

    @staticmethod
    def _dismiss(visitor: _Visitor, why: str) -> None:
        log.warning("incoming migration: connection from %s closed: %s", visitor.name, why)
        with contextlib.suppress(OSError):  # whoever is gone needs no answer
            visitor.socket.send(answers.refused(why), socket.MSG_DONTWAIT)
        visitor.socket.close()

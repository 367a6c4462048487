"""The thread that accepts clients and does all their handshakes, without waiting for any of them."""

from __future__ import annotations

import errno
import logging
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Protocol

from qmon.host.threads import Shortage
from qmon.nbd.clients import Client
from qmon.nbd.handshake import Agreement, Handshake

log = logging.getLogger("qmon.nbd")

_PIECE = 4096
_RETRY_SECONDS = 0.5
"""How long to wait after a client could not be accepted, mostly for lack of descriptors."""
_IN, _OUT = select.EPOLLIN, select.EPOLLOUT


class Door(Protocol):
    """What the server does with its clients. All is called by the one thread of the negotiation."""

    @property
    def is_full(self) -> bool:
        """Whether further clients must wait until one disconnects."""

    def accepted(self, sock: socket.socket, peer: str) -> Client:
        """Count a new client. Raises OSError, MemoryError."""

    def chosen(self, client: Client, agreement: Agreement) -> bool:
        """The client will use an export; return False if it has been removed meanwhile."""

    def starts_tls(self, client: Client, handshake: Handshake, seconds: float) -> None:
        """Take over a client that has to do the handshake of TLS, within ``seconds``. Raises OSError."""

    def agreed(self, client: Client, agreement: Agreement) -> None:
        """Take over a client whose handshake is over. Raises OSError, MemoryError."""

    def left(self, client: Client, error: BaseException | None) -> None:
        """The client has left, or is disconnected because of ``error``."""


def tell_refusal(client: Client, handshake: Handshake) -> None:
    """Log why a client has left without an export, if it was refused one."""
    if handshake.agreement is None and handshake.complaint:
        log.warning("NBD client %s was refused: %s", client.peer, handshake.complaint)


class _Talk:
    """One client's handshake."""

    def __init__(self, client: Client, handshake: Handshake, deadline: float) -> None:
        self.client = client
        self.handshake = handshake
        self.deadline = deadline
        self.unsent = memoryview(handshake.greeting())
        self.agreement: Agreement | None = None
        self.is_sending = False


class Negotiation:
    """``run`` is the thread's function; the other methods are thread-safe."""

    def __init__(
        self, listener: socket.socket, door: Door, handshake: Callable[[], Handshake], seconds: float
    ) -> None:
        """``handshake`` makes one for each client, which has to choose an export within ``seconds``."""
        self._listener = listener
        listener.setblocking(False)
        self._door = door
        self._new_handshake = handshake
        self._seconds = seconds
        self._talks: dict[int, _Talk] = {}
        """By descriptor, the oldest first."""
        self._is_ended = False
        self._is_listening = False
        self._retry_at: float | None = None
        self._shortage = Shortage(log, "can't accept an NBD client")
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._wake, _IN)

    def wake(self) -> None:
        """Make the thread look whether the server is full. Not after ``close``."""
        os.eventfd_write(self._wake, 1)

    def end(self) -> None:
        """Make ``run`` disconnect the clients that have not finished, and return."""
        self._is_ended = True
        self.wake()

    def close(self) -> None:
        """Free what it holds, once ``run`` has returned or if it never began."""
        self._epoll.close()
        os.close(self._wake)

    def run(self) -> None:
        try:
            while not self._is_ended:
                self._listen_if_possible()
                for number, _ in self._epoll.poll(self._timeout()):
                    if number == self._wake:
                        os.eventfd_read(self._wake)
                    elif talk := self._talks.get(number):
                        self._guarded(talk)
                    else:
                        self._accept()
                self._end_late_ones()
        finally:
            for talk in list(self._talks.values()):
                self._forget(talk)
                self._door.left(talk.client, None)

    def _listen_if_possible(self) -> None:
        if self._retry_at is not None and time.monotonic() >= self._retry_at:
            self._retry_at = None
        wanted = not self._door.is_full and self._retry_at is None
        if wanted and not self._is_listening:
            self._epoll.register(self._listener, _IN)
        elif self._is_listening and not wanted:
            self._epoll.unregister(self._listener)
        self._is_listening = wanted

    def _timeout(self) -> float | None:
        ends = [] if self._retry_at is None else [self._retry_at]
        if self._talks:
            ends.append(next(iter(self._talks.values())).deadline)
        return max(0.0, min(ends) - time.monotonic()) if ends else None

    def _accept(self) -> None:
        try:
            sock, address = self._listener.accept()
        except BlockingIOError:  # it has left already
            return
        except (OSError, MemoryError) as error:
            self._is_short(error)
            return
        try:
            client = self._door.accepted(sock, str(address))
        except (OSError, MemoryError) as error:
            self._is_short(error)
            sock.close()
            return
        self._shortage.over()
        talk = _Talk(client, self._new_handshake(), time.monotonic() + self._seconds)
        self._talks[sock.fileno()] = talk
        self._epoll.register(sock, _IN)
        self._guarded(talk)

    def _is_short(self, error: OSError | MemoryError) -> None:
        if not self._is_ended:
            self._shortage.tell(error)
            self._retry_at = time.monotonic() + _RETRY_SECONDS

    def _end_late_ones(self) -> None:
        now = time.monotonic()
        while self._talks and (talk := next(iter(self._talks.values()))).deadline <= now:
            self._forget(talk)
            text = f"no export chosen within {self._seconds:.0f} s"
            self._door.left(talk.client, TimeoutError(errno.ETIMEDOUT, text))

    def _guarded(self, talk: _Talk) -> None:
        try:
            if not self._go_on(talk):
                self._forget(talk)
                tell_refusal(talk.client, talk.handshake)
                self._door.left(talk.client, None)
        except Exception as error:  # noqa: BLE001 - it ends this client alone; the server logs it
            self._forget(talk)
            self._door.left(talk.client, error)

    def _go_on(self, talk: _Talk) -> bool:
        """Go on with a handshake as far as its socket allows; return False if the client has left."""
        handshake, sock = talk.handshake, talk.client.socket
        data = b""
        while True:
            if not self._send(talk):
                return True
            if talk.agreement is not None:
                self._forget(talk)
                self._door.agreed(talk.client, talk.agreement)
                return True
            if handshake.finished:
                return False
            if handshake.starts_tls:
                self._forget(talk)
                self._door.starts_tls(talk.client, handshake, talk.deadline - time.monotonic())
                return True
            reply = handshake.feed(data)
            if handshake.agreement is not None:
                talk.agreement = handshake.agreement
                if not self._door.chosen(talk.client, talk.agreement):
                    return False
            if not reply and talk.agreement is None and not handshake.finished:
                try:
                    data = sock.recv(_PIECE, socket.MSG_DONTWAIT)
                except BlockingIOError:
                    return True
                if not data:
                    return False
                continue
            talk.unsent, data = memoryview(reply), b""

    def _send(self, talk: _Talk) -> bool:
        """Send what has to be sent as far as the socket takes it; return whether it has taken all."""
        if talk.unsent:
            try:
                sent = talk.client.socket.send(talk.unsent, socket.MSG_DONTWAIT)
            except BlockingIOError:
                sent = 0
            talk.unsent = talk.unsent[sent:]
        if bool(talk.unsent) != talk.is_sending:
            talk.is_sending = not talk.is_sending
            self._epoll.modify(talk.client.socket, _OUT if talk.is_sending else _IN)
        return not talk.is_sending

    def _forget(self, talk: _Talk) -> None:
        """Unregister a client, which others may serve or close now."""
        number = talk.client.socket.fileno()
        if self._talks.pop(number, None) is not None:
            self._epoll.unregister(number)

"""One connection to an export that serves several threads: many requests are on their way at a time.

doc/proto.md, "Transmission". There is no thread for the replies: a thread that waits for its own reply
receives those of the others too, until its own has come. Then another one that waits goes on.
"""

from __future__ import annotations

import contextlib
import itertools
import select
import socket
import threading
from collections.abc import Callable, Sequence

from qmon.errors import QmonError, reason
from qmon.nbd.asked import Request
from qmon.nbd.client_handshake import Agreed
from qmon.nbd.client_socket import NbdError
from qmon.nbd.constants import (
    EXTENDED_REQUEST,
    EXTENDED_REQUEST_MAGIC,
    REQUEST,
    REQUEST_MAGIC,
    Command,
    CommandFlag,
)
from qmon.nbd.reply_reader import ReplyReader

__all__ = ["Link", "LinkLostError", "Request"]

_CLOSED = "the connection to the NBD server was closed"
_SHORT = 16 << 10
"""A payload up to this length is copied, so that it is sent with its header."""
_DONT_WAIT = int(socket.MSG_DONTWAIT)
_WRITE, _PAYLOAD_LEN = int(Command.WRITE), int(CommandFlag.PAYLOAD_LEN)


class LinkLostError(QmonError):
    """The connection has ended: whether the server has done the request is unknown."""


class Link:
    """A connection after its handshake. Any number of threads may ``ask`` and ``begin``."""

    def __init__(self, sock: socket.socket, raw: socket.socket, agreed: Agreed) -> None:
        """``sock`` sends and receives, ``raw`` is the one below TLS, or the same.

        With TLS one request at a time uses the socket: it can't send and receive at once.
        """
        sock.settimeout(None)
        self.agreed = agreed
        self.can_begin = sock is raw
        """Whether ``begin`` may be called."""
        self._sock = sock
        self._raw = raw
        self._reader = ReplyReader(sock, agreed)
        self._turn = contextlib.nullcontext() if sock is raw else threading.Lock()
        self._sending = threading.Lock()
        self._lock = threading.Lock()
        self._cookies = itertools.count(1)
        self._pending: dict[int, Request] = {}
        self._is_receiving = False
        self._lost: str | None = None
        self._users = 0
        """The threads that use the socket. The last one closes it after the connection has ended."""

    @property
    def waiting(self) -> int:
        """The number of requests on their way."""
        return len(self._pending)

    @property
    def is_lost(self) -> bool:
        """Whether the connection has ended."""
        return self._lost is not None

    def ask(self, request: Request) -> None:
        """Send a request and wait until its reply is in it. Raises LinkLostError."""
        with self._lock:
            if self._lost is not None:
                raise LinkLostError(self._lost)
            self._users += 1
        request.prepare_to_wait()
        try:
            with self._turn:
                if self._send([request]):
                    self._wait(request)
        finally:
            self._leave()
        if not request.is_done:
            raise LinkLostError(self._lost or _CLOSED)

    def begin(self, requests: Sequence[Request]) -> bool:
        """Send requests at once; each one's ``on_end`` is called when it has ended, or the connection has.

        Returns False if the connection has ended already. Who waits for the ends has to receive them.
        """
        with self._lock:
            if self._lost is not None:
                return False
            self._users += 1
        try:
            return self._send(requests)
        finally:
            self._leave()

    def why_lost(self) -> LinkLostError:
        """Return why the connection has ended."""
        return LinkLostError(self._lost or _CLOSED)

    def _send(self, requests: Sequence[Request]) -> bool:
        """Send requests; return False if the connection had ended before."""
        cookies = [next(self._cookies) for _ in requests]
        parts: list[bytes | bytearray | memoryview] = []
        for cookie, request in zip(cookies, requests, strict=True):
            parts.append(self._head(cookie, request))
            if request.payload:
                parts.append(request.payload)
        pieces = _joined(parts)
        with self._lock:
            if self._lost is not None:
                return False
            self._pending.update(zip(cookies, requests, strict=True))
        try:
            with self._sending:
                for data in pieces:
                    self._send_all(data)
        except OSError as error:
            self._fail(f"the connection to the NBD server failed: {reason(error)}")
        return True

    def _head(self, cookie: int, request: Request) -> bytes:
        flags, command = request.flags, request.command
        if not self.agreed.extended:
            return REQUEST.pack(REQUEST_MAGIC, flags, command, cookie, request.offset, request.length)
        if command == _WRITE:
            flags |= _PAYLOAD_LEN
        head = (EXTENDED_REQUEST_MAGIC, flags, command, cookie, request.offset, request.length)
        return EXTENDED_REQUEST.pack(*head)

    def _send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send; meanwhile receive, if nobody does: the server may wait for that before it reads on."""
        if self._sock is not self._raw:
            self._sock.sendall(data)
            return
        view = memoryview(data)
        while view:
            try:
                view = view[self._sock.send(view, _DONT_WAIT) :]
            except BlockingIOError:
                self._wait_to_send()

    def _wait_to_send(self) -> None:
        poll = select.poll()
        receives = self.claim()
        poll.register(self._raw, select.POLLOUT | (select.POLLIN if receives else 0))
        try:
            events = poll.poll(None if receives else _RETRY_MS)
            if receives and any(event & ~select.POLLOUT for _, event in events):
                self.receive()
        finally:
            if receives:
                self.release(_nobody)

    def interrupt(self) -> None:
        """End the connection: all that waits fails at once. For any thread."""
        self._fail(_CLOSED)

    def close(self) -> None:
        """Say goodbye and close, when no request is on its way."""
        with self._lock:
            is_idle = self._users == 0 and not self._pending
            self._users += 1
        if is_idle and self._lost is None:
            with contextlib.suppress(OSError):
                self._sock.settimeout(0)
                self._sock.sendall(self._head(0, Request(Command.DISC)))
        self._fail(_CLOSED)
        self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._users -= 1
            is_last = self._users == 0 and self._lost is not None
        if is_last:
            self._sock.close()
            self._raw.close()

    def _fail(self, why: str) -> None:
        """Note that the connection has ended, and wake all that wait."""
        with self._lock:
            if self._lost is None:
                self._lost = why
            waiting, self._pending = list(self._pending.values()), {}
            for request in waiting:
                request.wake()
        with contextlib.suppress(OSError):  # it has ended before
            self._raw.shutdown(socket.SHUT_RDWR)
        for request in waiting:
            if request.on_end is not None:
                request.on_end(request)

    # Replies

    def _wait(self, request: Request) -> None:
        while True:
            with self._lock:
                if request.is_done or self._lost is not None:
                    return
                leads = not self._is_receiving
                self._is_receiving = True
            if leads:
                self._receive_until(request)
                return
            request.wait()
            with self._lock:
                request.woken()

    def _receive_until(self, request: Request) -> None:
        """Receive replies until that of a request has come, then leave the socket to another thread."""
        try:
            while not request.is_done and self._lost is None:
                self._receive()
        finally:
            self._give_up_receiving(_nobody)

    def _give_up_receiving(self, wake: Callable[[], None]) -> None:
        """Let another thread receive, unless only transfers with ``wake`` are on their way."""
        with self._lock:
            self._is_receiving = False
            for other in self._pending.values():
                if other.transfer is None:
                    other.wake()
                    break
                if other.transfer.wake != wake:
                    other.transfer.wake()
                    break

    def _receive(self) -> None:
        """Receive one message."""
        try:
            found = self._reader.receive(self._pending)
        except OSError as error:
            self._fail(f"the connection to the NBD server failed: {reason(error)}")
        except NbdError as error:
            self._fail(str(error))
        else:
            if found is not None:
                self._done(*found)

    def _done(self, cookie: int, request: Request) -> None:
        with self._lock:
            if self._pending.pop(cookie, None) is None:
                return
            request.is_done = True
            request.wake()
        if request.on_end is not None:
            request.on_end(request)

    # A carrier

    def fileno(self) -> int:
        return self._raw.fileno()

    def claim(self) -> bool:
        with self._lock:
            if self._is_receiving or self._lost is not None:
                return False
            self._is_receiving = True
            self._users += 1
            return True

    @property
    def has_more(self) -> bool:
        return self._reader.has_more

    def receive(self) -> None:
        self._receive()
        while self._reader.has_more and self._lost is None:
            self._receive()

    def release(self, wake: Callable[[], None]) -> None:
        self._give_up_receiving(wake)
        self._leave()


def _nobody() -> None:
    """The ``wake`` of no transfer."""


_RETRY_MS = 50
"""How long a thread waits for room in the socket before it looks again whether anybody receives."""


def _joined(parts: Sequence[bytes | bytearray | memoryview]) -> list[bytes | bytearray | memoryview]:
    """Join what is short, so that it is sent at once."""
    if all(len(part) <= _SHORT for part in parts):
        return [b"".join(parts)]
    found: list[bytes | bytearray | memoryview] = []
    short: list[bytes | bytearray | memoryview] = []
    for part in parts:
        if len(part) <= _SHORT:
            short.append(part)
        else:
            found += [b"".join(short), part]
            short = []
    return [*found, b"".join(short)]

"""A client's socket: whole messages, each request within a time limit. The other end is not trusted."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time

from qmon.errors import QmonError
from qmon.host import tls as host_tls
from qmon.host.tls import Tls, TlsError
from qmon.host.tls_failures import explain
from qmon.notation.plain_text import one_line


class NbdError(QmonError):
    """The NBD server can't be used: it broke the protocol, refused the export, or the connection ended."""


class NbdRequestError(NbdError):
    """The server has refused one request. Further ones may be sent."""


class ClientSocket:
    """Sends and receives whole messages. ``begin`` starts the time limit of what follows."""

    def __init__(self, sock: socket.socket, patience: float) -> None:
        self._raw = sock
        self._sock = sock
        """The raw socket, or TLS on it."""
        self._patience = patience
        self._is_untried = False
        """Whether the server has said nothing since TLS has begun."""
        self._deadline = 0.0
        self.begin()

    @property
    def sockets(self) -> tuple[socket.socket, socket.socket]:
        """The socket that sends and receives, which may be TLS on the second one."""
        return self._sock, self._raw

    def begin(self) -> None:
        """From now, ``patience`` seconds are left for all messages until the next call."""
        self._deadline = time.monotonic() + self._patience

    def start_tls(self, tls: Tls, hostname: str | None) -> None:
        """Send and receive under TLS from now. Raises NbdError if the server does not prove who it is."""
        try:
            self._sock = tls.wrap_blocking(self._raw, hostname=hostname, seconds=self._patience)
        except TlsError as error:
            raise NbdError(str(error)) from error
        self._is_untried = True

    def send(self, data: bytes) -> None:
        """Raises NbdError."""
        try:
            self._limit()
            self._sock.sendall(data)
        except OSError as error:
            raise self._failure(error) from error

    def receive(self, length: int) -> bytes:
        """Return exactly so many bytes; the caller has bounded ``length``. Raises NbdError."""
        buffer = bytearray(length)
        self.receive_into(memoryview(buffer))
        return bytes(buffer)

    def receive_into(self, view: memoryview) -> None:
        """Fill the memory. Raises NbdError."""
        filled = 0
        while filled < len(view):
            try:
                self._limit()
                count = self._sock.recv_into(view[filled:])
            except OSError as error:
                raise self._failure(error) from error
            if not count:
                raise self._closed()
            self._is_untried = False
            filled += count

    def receive_text(self, length: int) -> str:
        """Return a text of the server that can be shown in a line. Raises NbdError."""
        return one_line(self.receive(length).decode(errors="replace"))

    def interrupt(self) -> None:
        """End the connection. Another thread may call this: what waits here fails at once."""
        with contextlib.suppress(OSError):  # it has ended before
            self._raw.shutdown(socket.SHUT_RDWR)

    def close(self, last: bytes = b"") -> None:
        """Send the last bytes, if that is still possible, and close."""
        with contextlib.suppress(OSError):
            self._sock.setblocking(False)
            self._sock.send(last)
        if isinstance(self._sock, ssl.SSLSocket):
            host_tls.close(self._sock)
        self._raw.close()

    def _limit(self) -> None:
        left = self._deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        self._sock.settimeout(left)

    def _failure(self, error: OSError) -> NbdError:
        if isinstance(error, TimeoutError):
            return NbdError(f"the NBD server has not answered within {self._patience:g} s")
        why = host_tls.said_before(self._sock, error, "server")
        if why is None and self._is_untried and isinstance(error, ssl.SSLEOFError | ConnectionError):
            return self._closed()  # with something of ours unread, so that the system tells of a reset
        return NbdError(f"the connection to the NBD server failed: {why or explain(error, 'server')}")

    def _closed(self) -> NbdError:
        may_be = " after TLS: it may have refused our certificate" if self._is_untried else ""
        return NbdError(f"the NBD server closed the connection{may_be}")

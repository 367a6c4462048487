"""TLS of a console's connection: a local socket, and threads that pass its bytes on under TLS."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Callable

from qmon.errors import reason
from qmon.host.secure_line import SecureLine
from qmon.host.threads import start_thread
from qmon.host.tls import Authorize, Tls

_PIECE = 1 << 16


class Secured:
    """A connection under TLS. ``local`` is its plain end, which the caller closes; ``why``: why it failed."""

    def __init__(
        self,
        sock: socket.socket,
        tls: Tls,
        hostname: str | None = None,
        authorize: Authorize | None = None,
    ) -> None:
        """Do the handshake; may block for seconds. Raises TlsError or OSError; then ``sock`` is closed."""
        self.why = ""
        try:
            secured = tls.wrap_blocking(sock, hostname=hostname, authorize=authorize)
            self._line = SecureLine(sock, secured, tls.peer)
        except BaseException:
            sock.close()
            raise
        self.local, self._inner = socket.socketpair()
        self._left = 2
        self._ending = threading.Lock()
        for pump in (self._receive, self._send):
            thread = threading.Thread(target=self._run, args=[pump], name="connection-tls", daemon=True)
            try:
                start_thread(thread)
            except BaseException:
                self.local.close()
                self._run(lambda: None)
                raise

    def _receive(self) -> None:
        buffer = memoryview(bytearray(_PIECE))
        while count := self._line.recv_into(buffer):
            self._inner.sendall(buffer[:count])

    def _send(self) -> None:
        while data := self._inner.recv(_PIECE):
            self._line.sendall(data)

    def _run(self, pump: Callable[[], None]) -> None:
        """Pass on bytes in one direction to the end of it, which ends the other one."""
        try:
            pump()
        except OSError as error:
            self.why = self.why or reason(error)
        for each in (self._inner, self._line):
            with contextlib.suppress(OSError):  # disconnected already
                each.shutdown(socket.SHUT_RDWR)
        with self._ending:
            self._left -= 1
            if not self._left:
                self._inner.close()
                self._line.close()


Secure = Callable[[socket.socket], Secured]
"""Begins TLS on a connected socket. May block. Raises QmonError or OSError."""

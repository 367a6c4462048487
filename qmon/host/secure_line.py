"""TLS that one thread reads while another one writes. OpenSSL allows one call on a connection at a time.

So no call waits inside OpenSSL: the threads wait for the socket, and take turns at what is ready.
"""

from __future__ import annotations

import errno
import os
import select
import socket
import ssl
import threading
from collections.abc import Iterable

from qmon.host import tls
from qmon.host.tls import Authorize, Tls
from qmon.host.tls_failures import explain


class SecurityLostError(ConnectionError):
    """The connection has ended for a reason of TLS; the text is one line."""


class SecureLine:
    """A connected socket and the TLS on it (``Tls.wrap_blocking``), with the calls of a socket.

    ``peer`` is what the other end is: ``client`` or ``server``. One thread may read and one may write; any
    thread may call ``shutdown``.
    """

    def __init__(self, raw: socket.socket, secured: ssl.SSLSocket, peer: str) -> None:
        secured.setblocking(False)
        self._raw = raw
        self._secured = secured
        self._peer = peer
        self._turn = threading.Lock()
        self._send_ms: float | None = None
        self._ended = False
        self._failure: OSError | None = None

    def fileno(self) -> int:
        return self._raw.fileno()

    def limit_sending(self, seconds: float) -> None:
        """Let a send fail with EAGAIN when the peer accepts nothing for so long."""
        self._send_ms = seconds * 1000

    def recv_into(self, buffer: memoryview) -> int:
        """Wait for bytes; return how many were received, 0 at the end. Raises OSError."""
        while (count := self.recv_now(buffer)) is None:
            self._wait(select.POLLIN)
        return count

    def recv_now(self, buffer: memoryview) -> int | None:
        """Return how many bytes were received, 0 at the end, None if there are none yet. Raises OSError."""
        filled = 0
        while filled < len(buffer) and not self._ended and self._failure is None:
            count = self._receive(buffer[filled:])
            if count is None:
                break
            filled += count
        if filled:
            return filled
        if self._failure is not None:
            raise self._failure
        return 0 if self._ended else None

    def _receive(self, buffer: memoryview) -> int | None:
        """Receive a record. What has come before a failure is handed over before the failure."""
        try:
            with self._turn:
                count = self._secured.recv_into(buffer)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLWantWriteError:
            self._wait(select.POLLOUT)
            return 0
        except OSError as error:
            self._failure = self._explained(error)
            return 0
        self._ended = not count
        return count

    def sendmsg(self, buffers: Iterable[bytes | memoryview]) -> int:
        """Send all bytes of the buffers; return how many. Raises OSError."""
        data = b"".join(buffers)
        self.sendall(data)
        return len(data)

    def sendall(self, data: bytes) -> None:
        """Send all bytes. Raises OSError."""
        left = memoryview(data)
        while left:
            try:
                with self._turn:
                    count = self._secured.send(left)
            except ssl.SSLWantWriteError:
                self._wait(select.POLLOUT, self._send_ms)
            except ssl.SSLWantReadError:
                self._wait(select.POLLIN, self._send_ms)
            except OSError as error:
                raise self._explained(error) from error
            else:
                left = left[count:]

    def check(self, by: Tls, authorize: Authorize | None) -> None:
        """Check that the peer is authorized (``Tls.check``). Raises TlsError."""
        with self._turn:
            by.check(self._secured, authorize)

    def shutdown(self, how: int) -> None:
        """Disconnect, and wake the threads that wait. Raises OSError."""
        self._raw.shutdown(how)

    def close(self) -> None:
        tls.close(self._secured)
        self._raw.close()

    def _wait(self, events: int, limit_ms: float | None = None) -> None:
        poll = select.poll()
        poll.register(self._raw, events)
        if not poll.poll(limit_ms):
            raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    def _explained(self, error: OSError) -> OSError:
        return SecurityLostError(explain(error, self._peer)) if isinstance(error, ssl.SSLError) else error

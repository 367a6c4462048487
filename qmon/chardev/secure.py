"""TLS of a character device's connections, on the loop."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import Callable
from dataclasses import dataclass

from qmon.errors import CommandError
from qmon.host.secure_line import SecurityLostError
from qmon.host.tls import HANDSHAKE_SECONDS, Authorize, Tls, TlsError, close
from qmon.host.tls_failures import explain

_GOODBYE_SECONDS = 1.0
"""How long to wait, after a failed handshake, for the peer to read why."""


@dataclass(frozen=True, slots=True)
class Security:
    """What a device demands of its peers: TLS, and perhaps a certificate of a certain name."""

    tls: Tls
    authorize: Authorize | None = None


FindSecurity = Callable[[str, str | None, bool], Security]
"""Finds the objects of ``tls-creds`` and ``tls-authz``, for a server or (False) a client.

Raises CommandError.
"""


def no_objects(creds: str, authz: str | None, is_server: bool) -> Security:
    """A ``FindSecurity`` where there are no objects."""
    raise CommandError(f"No TLS credentials with id '{creds}'")


class SecureEnd:
    """TLS on a connected socket, with the calls that a stream needs. Nothing waits: see BlockingIOError."""

    def __init__(self, secured: ssl.SSLSocket, peer: str) -> None:
        self._secured = secured
        self._peer = peer

    def fileno(self) -> int:
        return self._secured.fileno()

    def recv(self, limit: int) -> bytes:
        """Raises OSError."""
        try:
            return self._secured.recv(limit)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except ssl.SSLError as error:
            raise SecurityLostError(explain(error, self._peer)) from error

    def send(self, data: bytes | bytearray) -> int:
        """Raises OSError."""
        try:
            return self._secured.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError) as error:
            raise BlockingIOError from error
        except ssl.SSLError as error:
            raise SecurityLostError(explain(error, self._peer)) from error

    def close(self) -> None:
        close(self._secured)


async def secure(sock: socket.socket, security: Security, hostname: str | None = None) -> SecureEnd:
    """Do the handshake on a connected socket, which is taken over. Raises TlsError.

    ``hostname`` is what a client compares with the server's certificate.
    """
    tls = security.tls
    secured: socket.socket = sock
    sock.setblocking(False)
    try:
        wrapped = secured = tls.context().wrap_socket(
            sock,
            tls.is_server,
            do_handshake_on_connect=False,
            server_hostname=tls.server_name(hostname),
        )
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            await _shake_hands(wrapped)
        tls.check(wrapped, security.authorize)
    except (OSError, ValueError) as error:
        await _let_it_read(secured)
        raise TlsError(tls.explain(error, hostname)) from error
    except BaseException:
        secured.close()
        raise
    return SecureEnd(wrapped, tls.peer)


async def _shake_hands(secured: ssl.SSLSocket) -> None:
    while True:
        try:
            secured.do_handshake()
        except ssl.SSLWantReadError:
            await _ready(secured, to_write=False)
        except ssl.SSLWantWriteError:
            await _ready(secured, to_write=True)
        else:
            return


async def _ready(sock: socket.socket, *, to_write: bool) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    add, remove = (loop.add_writer, loop.remove_writer) if to_write else (loop.add_reader, loop.remove_reader)
    add(sock, ready.set)
    try:
        await ready.wait()
    finally:
        remove(sock)


async def _let_it_read(secured: socket.socket) -> None:
    """Close so that the peer can read the alert: closing with bytes unread would take it away again."""
    with secured, contextlib.suppress(OSError, ValueError):  # the peer has gone
        raw = socket.socket(fileno=os.dup(secured.fileno()))
        with raw:
            raw.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(_GOODBYE_SECONDS):
                while await asyncio.get_running_loop().sock_recv(raw, 1 << 14):
                    pass

"""TLS of a migration's connection: it begins with the first byte, as in QEMU."""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from dataclasses import dataclass

from qmon.host.pipe_line import PipeLine
from qmon.host.secure_line import SecureLine
from qmon.host.tls import Authorize, Tls

WANTS_TLS = (
    "this destination wants TLS, and the source does not use it: set the parameter tls-creds at the source"
)
_HANDSHAKE = b"\x16"
"""The first byte of a client's TLS (RFC 8446, 5.1). That of a stream is another one."""


@dataclass(frozen=True, slots=True)
class Security:
    """What one side of a migration demands of the other one.

    ``hostname`` is the name that the destination's certificate must have; ``authorize`` is for the source's.
    """

    tls: Tls
    hostname: str | None = None
    authorize: Authorize | None = None


Demand = Callable[[], Security | None]
"""Asked for each connection, by the parameters of that moment; None is a plain one. Raises QmonError."""

Line = socket.socket | SecureLine | PipeLine
"""A migration's connection."""


def plain() -> None:
    """A ``Demand`` of no TLS."""


def to_destination(sock: socket.socket, security: Security | None, seconds: float) -> Line:
    """Return a source's connection. Raises TlsError; then the socket is closed."""
    if security is None:
        return sock
    try:
        secured = security.tls.wrap_blocking(sock, hostname=security.hostname, seconds=seconds)
    except BaseException:
        sock.close()
        raise
    return SecureLine(sock, secured, security.tls.peer)


def to_source(sock: socket.socket, security: Security, seconds: float) -> SecureLine:
    """Return a destination's connection, before the source's name is checked. Raises TlsError."""
    secured = security.tls.wrap_blocking(sock, seconds=seconds)
    return SecureLine(sock, secured, security.tls.peer)


def begins_tls(sock: socket.socket) -> bool:
    """Whether what a connection has sent begins TLS. Waits for its first byte. Raises OSError."""
    return sock.recv(1, socket.MSG_PEEK) == _HANDSHAKE


def limit_sending(line: Line, seconds: int) -> None:
    """Let a send fail with EAGAIN when the peer accepts nothing for so long."""
    if not isinstance(line, socket.socket):
        line.limit_sending(seconds)
    else:  # the kernel's timeout, not Python's: that would poll before every call
        line.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", seconds, 0))

"""A client of the server: its socket, its place in the protocol, and what it has done."""

from __future__ import annotations

import logging
import select
import socket
import ssl
import struct
import threading
import time
from dataclasses import dataclass

from qmon.block.accounts import Counters
from qmon.errors import reason
from qmon.nbd.constants import Command
from qmon.nbd.export import Export
from qmon.nbd.forms import COMPACT_FORM, EXTENDED_FORM

log = logging.getLogger("qmon.nbd")

UNIX_SEND_BUFFER = 1 << 20
"""1 MiB reads were up to twice as fast as with Linux's default of 208 KiB. TCP adapts its buffers itself."""
_LONGEST_HEADER = EXTENDED_FORM.size + 1
"""Of a request, and one byte that tells whether there is more."""
_CREDENTIALS = struct.Struct("3i")
"""unix(7), SO_PEERCRED: process, user and group."""


@dataclass(frozen=True, slots=True)
class ClientInfo:
    """A client that uses an export: its number on this server, its address, and what it has done.

    ``address`` is ``HOST:PORT``, or such as ``process 4711`` for a client on a Unix socket. ``connected`` is
    when it connected, by ``time.monotonic``. ``counters`` are its own; its thread goes on writing them.
    """

    number: int
    export: str
    address: str
    connected: float
    counters: Counters


class Client:
    """A connected socket, the export that its client chose, and the client's counters there."""

    def __init__(self, sock: socket.socket, peer: str, number: int) -> None:
        """``peer`` is the address that the socket was accepted from, for the log."""
        self.socket = sock
        self.secured: ssl.SSLSocket | None = None
        """TLS on the socket, if the server has it."""
        self.peer = peer or f"number {number}"
        self.number = number
        self.address = _address(sock)
        self.connected = time.monotonic()
        self.thread: threading.Thread | None = None
        """Its own thread, if it uses TLS."""
        self.export: Export | None = None
        self.counters = Counters()
        _tune(sock)

    @property
    def wire(self) -> socket.socket:
        """What the protocol goes over."""
        return self.socket if self.secured is None else self.secured

    def describe(self, export: Export) -> ClientInfo:
        return ClientInfo(self.number, export.name, self.address, self.connected, self.counters)

    def shutdown(self, how: int = socket.SHUT_RDWR) -> None:
        """End all waiting for the socket. Call it with the server's lock held."""
        try:
            self.socket.shutdown(how)
        except OSError as error:
            log.debug("client %s had already disconnected: %s", self.peer, reason(error))

    def is_leaving(self) -> bool:
        """Whether the client has closed its end, or all it has sent and nobody has read is a goodbye.

        Call it with the server's lock held. A goodbye under TLS can't be seen.
        """
        poll = select.poll()
        poll.register(self.socket, select.POLLRDHUP)
        if poll.poll(0):
            return True
        try:
            unread = self.socket.recv(_LONGEST_HEADER, socket.MSG_PEEK | socket.MSG_DONTWAIT)
        except OSError:
            return False
        return any(
            len(unread) == form.size and form.unpack_from(unread)[:3:2] == (form.magic, Command.DISC)
            for form in (COMPACT_FORM, EXTENDED_FORM)
        )


def _tune(sock: socket.socket) -> None:
    """Prepare a socket. Raises OSError."""
    if sock.family == socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_SEND_BUFFER)
    else:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _address(sock: socket.socket) -> str:
    """Return the address of a client, "" if it has already disconnected."""
    try:
        if sock.family == socket.AF_UNIX:
            credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
            return f"process {_CREDENTIALS.unpack(credentials)[0]}"
        host, port, *_ = sock.getpeername()
    except OSError as error:
        log.debug("the address of a client is not known: %s", reason(error))
        return ""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

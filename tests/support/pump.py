"""Passes on what comes on a socket."""

from __future__ import annotations

import contextlib
import socket
import threading


def pump(one: socket.socket, other: socket.socket) -> None:
    """Join two sockets, on threads of their own, until either side ends."""
    for ends in ((one, other), (other, one)):
        threading.Thread(target=_pass_on, args=ends, daemon=True).start()


def _pass_on(one: socket.socket, other: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := one.recv(1 << 16):
            other.sendall(data)
        other.shutdown(socket.SHUT_WR)

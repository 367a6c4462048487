"""Sockets that a parent process or a QMP client has passed: ``-chardev socket,fd=N``."""

from __future__ import annotations

import socket
import stat
from os import close, fstat

from qmon.errors import CommandError, reason


def passed_socket(descriptor: int, name: str, *, is_server: bool, backlog: int) -> socket.socket:
    """Take a descriptor over as a socket that listens or is connected; ``name`` is how it was given.

    Raises CommandError; then the descriptor is closed.
    """
    try:
        if not stat.S_ISSOCK(fstat(descriptor).st_mode):
            raise CommandError(f"File descriptor '{name}' is not a socket")
        sock = socket.socket(fileno=descriptor)
    except BaseException:
        close(descriptor)
        raise
    try:
        if sock.type != socket.SOCK_STREAM:
            raise CommandError(f"File descriptor '{name}' is not a stream socket")
        if is_server:
            _listen(sock, name, backlog)
        else:
            _check_connected(sock, name)
    except BaseException:
        sock.close()
        raise
    return sock


def _listen(sock: socket.socket, name: str, backlog: int) -> None:
    try:
        sock.listen(backlog)
    except OSError as error:
        why = f"Failed to listen on fd socket: {reason(error)}"
        raise CommandError(
            f"{why}: File descriptor '{name}' must be a listening socket, or write server=off"
        ) from error


def _check_connected(sock: socket.socket, name: str) -> None:
    if sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        raise CommandError(f"File descriptor '{name}' is a listening socket: write server=on")
    try:
        sock.getpeername()
    except OSError as error:
        raise CommandError(f"File descriptor '{name}' is not connected: {reason(error)}") from error

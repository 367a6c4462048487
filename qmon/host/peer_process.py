"""The process at the other end of a Unix socket. Its end is known for certain."""

from __future__ import annotations

import os
import select
import socket
import struct
from pathlib import Path

_CREDENTIALS = struct.Struct("3i")
_CONNECTED = "03"
"""A connected socket's state in /proc/net/unix (linux/net.h, SS_CONNECTED)."""


class PeerProcess:
    """A process that held the other end of a connection when this was made."""

    def __init__(self, pid: int, descriptor: int) -> None:
        self.pid = pid
        self._descriptor = descriptor
        self._has_ended = False

    @property
    def has_ended(self) -> bool:
        """Whether it has ended, for certain. Behind ``close`` this is what was known before."""
        if self._descriptor >= 0 and not self._has_ended:
            watch = select.poll()
            watch.register(self._descriptor, select.POLLIN)
            self._has_ended = bool(watch.poll(0))
        return self._has_ended

    def close(self) -> None:
        """Watch it no more; idempotent."""
        if self._descriptor >= 0:
            self._has_ended = self.has_ended
            os.close(self._descriptor)
            self._descriptor = -1


def peer_process(sock: socket.socket) -> PeerProcess | None:
    """Return the process at the other end of a connected Unix socket; None if it can't be told for certain.

    The kernel names the process that called listen(), which may have been another one: a launcher that has
    passed the socket on. So the process counts only if it holds a connected socket of that name itself.
    """
    if sock.family != socket.AF_UNIX:
        return None
    try:
        credentials = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, _, _ = _CREDENTIALS.unpack(credentials)
        if pid <= 0:  # it is in another PID namespace
            return None
        descriptor = os.pidfd_open(pid)
    except OSError:  # it has ended
        return None
    if _holds_one_of(pid, _sockets_named(sock.getpeername())):
        return PeerProcess(pid, descriptor)
    os.close(descriptor)
    return None


def _sockets_named(name: str | bytes) -> set[str]:
    """Return the inode numbers of the connected sockets with a name. A server's end has the listener's."""
    if not name or isinstance(name, bytes):  # abstract: its name is not unique to a network namespace
        return set()
    try:
        rows = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return set()
    found = set()
    for row in rows:
        _, _, _, _, _, state, inode, *rest = row.split(maxsplit=7)  # a name may have spaces
        if state == _CONNECTED and rest == [name]:
            found.add(inode)
    return found


def _holds_one_of(pid: int, inodes: set[str]) -> bool:
    wanted = {f"socket:[{inode}]" for inode in inodes}
    try:
        with os.scandir(f"/proc/{pid}/fd") as entries:
            return any(_target(entry.path) in wanted for entry in entries)
    except OSError:  # it has ended, or is another user's
        return False


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:  # it was closed meanwhile
        return ""

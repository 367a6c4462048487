"""File descriptors that a client sends with its messages (SCM_RIGHTS), kept until a command takes them."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Sequence
from contextvars import ContextVar

MAX_DESCRIPTORS = 16
"""The most descriptors of one message; the kernel closes further ones (QEMU, chardev/char-socket.c)."""

_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


class ReceivedDescriptors:
    """The descriptors of one client's last message. Earlier ones that were not taken are closed."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def put(self, descriptors: Sequence[int]) -> None:
        """Own these descriptors; close those held before."""
        self.close()
        self._held = list(descriptors)

    def take(self) -> int | None:
        """Return the first, which the caller then owns, and close the others; None if there are none."""
        if not self._held:
            return None
        first = self._held.pop(0)
        self.close()
        return first

    def close(self) -> None:
        while self._held:
            os.close(self._held.pop())


TAKE_RECEIVED: ContextVar[Callable[[], int | None]] = ContextVar(
    "take a received descriptor", default=lambda: None
)
"""Returns a descriptor that the running command's client has sent, or None. The caller then owns it.

The code that serves a client sets this variable in the client's task.
"""


class DescriptorSocket(socket.socket):
    """A connection whose ``recv`` keeps the descriptors that arrive with the data, in ``received``.

    It takes over the socket that it is made from.
    """

    def __init__(self, connection: socket.socket) -> None:
        blocking = connection.getblocking()
        super().__init__(fileno=connection.detach())
        self.setblocking(blocking)
        self.received = ReceivedDescriptors()

    def recv(self, bufsize: int, flags: int = 0) -> bytes:
        if self.family != socket.AF_UNIX:
            return super().recv(bufsize, flags)
        data, ancillary, _, _ = self.recvmsg(bufsize, _SPACE, flags | socket.MSG_CMSG_CLOEXEC)
        for level, kind, content in ancillary:
            if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
                descriptors = array.array("i")
                descriptors.frombytes(content[: len(content) // descriptors.itemsize * descriptors.itemsize])
                self.received.put(descriptors)
        return data

    def close(self) -> None:
        self.received.close()
        super().close()

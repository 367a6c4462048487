"""File descriptors that a client hands over with its messages (SCM_RIGHTS), until a command takes them."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Sequence
from contextvars import ContextVar

MAX_DESCRIPTORS = 16
"""How many come with one message at most; the kernel closes the others (QEMU, chardev/char-socket.c)."""

_SPACE = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


class ReceivedDescriptors:
    """What one client has handed over last; what came before and was not taken is closed."""

    def __init__(self) -> None:
        self._held: list[int] = []

    def put(self, descriptors: Sequence[int]) -> None:
        """Hold these, which are ours from now on."""
        self.close()
        self._held = list(descriptors)

    def take(self) -> int | None:
        """Give away the first, and close the others; None where there are none."""
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
"""Takes a descriptor that the client whose command runs has handed over, the caller's from then on.

None when there is none. Who serves a client sets it in the client's task.
"""


class DescriptorSocket(socket.socket):
    """A connection whose ``recv`` keeps the descriptors that come with the data; ``received`` has them.

    Takes the place of the connection that it is made of.
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

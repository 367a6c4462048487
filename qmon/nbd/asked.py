"""A request of a client that has many on their way, and afterwards its result."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from qmon.block.transfers import Transfer
from qmon.nbd.client_socket import NbdError
from qmon.nbd.constants import Command
from qmon.nbd.filled import Filled

Extent = tuple[int, int]
"""The length of a range in bytes, and its status in the context base:allocation."""


@dataclass(slots=True, eq=False)
class Request:
    """A request, and afterwards its result."""

    command: int
    offset: int = 0
    length: int = 0
    flags: int = 0
    payload: bytes | bytearray | memoryview = b""
    """What is written."""
    view: memoryview | None = None
    """The memory that is filled by a READ."""
    transfer: Transfer | None = None
    """What it is for, if nobody waits for it."""
    on_end: Callable[[Request], None] | None = None
    """Called when it has ended, by any thread, if nobody waits for it."""
    error: int = 0
    """The NBD error of the server; 0 if the request was done."""
    text: str = ""
    """What the server says about the error, in one line."""
    extents: list[Extent] = field(default_factory=list)
    is_done: bool = False
    """Whether the whole reply has come."""
    chunks: int = 0
    _filled: Filled | None = None
    _wake: threading.Lock | None = None
    """Released when the request is done, or when its thread is to receive."""
    _is_woken: bool = False

    def again(self) -> None:
        """Make it as it was before it was sent."""
        self.error, self.text, self.extents = 0, "", []
        self._filled, self.chunks, self.is_done = None, 0, False

    def part(self, start: int, length: int) -> memoryview:
        """Return the memory of a chunk of data. Raises NbdError."""
        assert self.view is not None
        if self._filled is None:
            if start == self.offset and length == len(self.view) and not self.chunks:
                self._filled = WHOLE
                return self.view
            self._filled = Filled(self.offset, self.view)
        return self._filled.part(start, length)

    def check(self) -> None:
        """Check a reply that is complete. Raises NbdError."""
        if self.error or self._filled is WHOLE:
            return
        if self.view is not None:
            (self._filled or Filled(self.offset, self.view)).check()
        elif self.command == Command.BLOCK_STATUS and not self.extents:
            raise wrong("no extents in reply to BLOCK_STATUS")

    def prepare_to_wait(self) -> None:
        """Before ``wait``, in its thread."""
        if self._wake is None:
            self._wake = threading.Lock()
            self._wake.acquire()

    def wait(self) -> None:
        """Wait until ``wake`` was called since the last time."""
        assert self._wake is not None
        self._wake.acquire()

    def woken(self) -> None:
        """After ``wait``, with the link's lock held."""
        self._is_woken = False

    def wake(self) -> None:
        """Let its thread go on. The link's lock is held."""
        if self._wake is not None and not self._is_woken:
            self._is_woken = True
            self._wake.release()


WHOLE = Filled(0, memoryview(b""))
"""Stands for a read that one chunk has filled: any further one is too much."""


def wrong(what: str) -> NbdError:
    """Return the error of a server that breaks the protocol."""
    return NbdError(f"the NBD server broke the protocol: it sent {what}")

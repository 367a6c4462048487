"""What the parts that serve a connection's requests see of it."""

from __future__ import annotations

import socket
from typing import Protocol

from qmon.block.accounts import Counters
from qmon.block.gate import Gate
from qmon.block.node import Node
from qmon.nbd.contexts import Context
from qmon.nbd.export import Disk
from qmon.nbd.failures import Failures
from qmon.nbd.forms import RequestForm
from qmon.nbd.replies import Replies


class Session(Protocol):
    """One client's requests. What was received is in ``requests`` from ``start`` to ``end``."""

    socket: socket.socket
    disk: Disk
    requests: memoryview
    start: int
    end: int
    form: RequestForm
    replies: Replies
    counters: Counters
    gate: Gate
    failures: Failures
    contexts: tuple[tuple[int, Context], ...]
    piece: int
    """How many bytes of a request's data are held at once."""
    most_extents: int
    """The most extents that one reply covers."""
    wait_all: int
    """The flag for ``recv`` that waits for all bytes, or 0."""

    def enter(self) -> Node | None:
        """Enter the gate and return the node. If the disk has moved, return None without entering."""

    def refusal(self, command: int, flags: int, offset: int, length: int, size: int) -> int:
        """Return the error value with which the rules refuse a request, or 0."""

    def refuse(self, command: int, flags: int, cookie: int, offset: int, length: int, size: int) -> None:
        """Add the reply to a request that the rules refuse."""

    def trace(self, flags: int, command: int, cookie: int, offset: int, length: int) -> None:
        """Trace a request."""

"""Takes the requests that a source forwards for its clients, to the drives that have come from there.

They pass what the requests of this machine's own guests pass: the gates, the limits, the filters. What waits
for nothing is done by the thread that receives it, and answered together. The rest is left to a few others.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import time
from collections.abc import Callable, Sequence

from qmon.migration.destination.forwarded_jobs import Jobs
from qmon.migration.destination.forwarded_replies import Replies, Sender
from qmon.migration.destination.forwarded_visit import Visit
from qmon.migration.destination.freshness import Freshness
from qmon.migration.drive import MigratingDrive
from qmon.migration.wire.forward import ForwardError, Kind, Message, Messages, pack, read_opening
from qmon.migration.wire.receiving import prepare, receive
from qmon.migration.wire.security import Line


class Forwarded:
    """One connection that carries forwarded requests. ``run`` is its thread's function."""

    def __init__(
        self,
        line: Line,
        drives: Sequence[MigratingDrive],
        peer: str,
        begun: bytes,
        silence: float,
        on_change: Callable[[], None],
    ) -> None:
        """``begun`` are bytes that were received before. ``silence``: seconds after which the source is lost.

        ``on_change`` is called, on any thread, when the number of clients has changed.
        """
        self.peer = peer
        self.clients = 0
        self._line = line
        self._by_id = {drive.id: drive for drive in drives}
        self._drives: list[MigratingDrive] = []
        self._messages = Messages(begun)
        self._silence = silence
        self._on_change = on_change
        prepare(line)
        self._fresh = Freshness()
        self._sender = Sender(line)
        self._replies = Replies(self._sender)
        self._visit = Visit(self._drives, self._replies)
        self._jobs = Jobs(self._sender, self.stop)
        self._is_asked = False
        """Whether the source wants a sign of life."""

    @property
    def requests(self) -> int:
        """How many requests were carried out."""
        return self._visit.done + self._jobs.done

    @property
    def in_flight(self) -> int:
        """How many requests wait or are carried out."""
        return self._jobs.waiting

    def stop(self) -> None:
        """Take no more requests; what is under way ends. For any thread."""
        with contextlib.suppress(OSError):  # already disconnected
            self._line.shutdown(socket.SHUT_RD)

    def run(self) -> None:
        """Serve until the connection ends. Raises QmonError for what is not valid, OSError."""
        try:
            self._serve()
            while self._receive():
                self._serve()
        finally:
            self._jobs.end()
            self._visit.close()
            self.clients = 0
            self._on_change()

    def _receive(self) -> bool:
        """Wait for bytes; return False at the end. Raises OSError, also after a long silence."""
        count = receive(self._line, self._messages.room(), self._silence)
        if count is None:
            raise TimeoutError(errno.ETIMEDOUT, f"no data for {self._silence:g} s")
        self._messages.filled(count)
        return count > 0

    def _serve(self) -> None:
        """Take what was received: do what waits for nothing, and send the replies. Raises ForwardError."""
        now = int(time.monotonic() * 1000)
        try:
            for message in self._messages.items():
                if self._fresh.is_late(message.stamp, now):
                    raise ForwardError("requests were on their way for too long: their clients have given up")
                self._take(message)
        finally:
            self._visit.leave()
        self._replies.send()
        if self._is_asked:
            self._is_asked = False
            self._sender.send(pack(Kind.PONG))

    def _take(self, message: Message) -> None:
        match message.kind:
            case Kind.REQUESTS:
                for job in self._visit.serve(message):
                    self._jobs.give(job)
            case Kind.PING:
                self._is_asked = True
            case Kind.CLIENTS:
                self._count(message.number)
            case Kind.OPEN if not self._drives:
                self._open(message)
            case kind:
                raise ForwardError(f"a message of kind {kind} was not expected")

    def _open(self, message: Message) -> None:
        for opened in read_opening(message.body):
            drive = self._by_id.get(opened.id)
            if drive is None:
                raise ForwardError("the source forwards requests to a drive that has not come from there")
            self._drives.append(drive)
        self._count(message.number)

    def _count(self, clients: int) -> None:
        if clients != self.clients:
            self.clients = clients
            self._on_change()

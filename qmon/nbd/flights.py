"""The reads and writes of one client that are under way on a node that is far away.

Several requests are under way at a time, and are answered as they end. Only plain ones are: all else waits
until these have ended. So a flush covers what was answered before it, and what was begun before it.

Who serves the client is their attendant: a thread of its own (``flight_watch``), or the loop of the disk for
all its clients (``far_clients``). It changes only when none is under way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from time import monotonic_ns
from typing import Protocol

from qmon.block.accounts import Done
from qmon.block.gate import GateShutError
from qmon.block.node import Node
from qmon.block.transfers import Carrier, Start, Transfer, starter
from qmon.host.trace import NBD_RECEIVE_REQUEST
from qmon.nbd.rules import READ, WRITE
from qmon.nbd.session import Session

MOST = 128
"""Requests of one client that are under way at a time."""

MOST_BYTES = 4 << 20
"""And the bytes of their data, for a client with large buffers: three requests of 1 MiB and some more."""


class Flying(Session, Protocol):
    """The connection, as its flights see it."""

    writable: bool

    @property
    def polls_client(self) -> bool:
        """Whether the client's socket can be polled, and send and receive without waiting."""

    @property
    def has_unsent(self) -> bool:
        """Whether the client has not taken all replies; none may be added meanwhile."""

    def receive_now(self) -> bool:
        """Receive what the socket has; return False if the client has closed it."""

    def send_now(self) -> bool:
        """Send the replies as far as the socket takes them; return whether it has taken all."""


class Attendant(Protocol):
    """Who serves the client, and receives the ends of its requests meanwhile."""

    wake: Callable[[], None]
    """For any thread: something has happened, or a carrier may be free."""
    carriers: set[Carrier]
    """Where the ends of requests arrive."""
    receives_from: Carrier | None
    """What its thread receives from now, if replies may be added."""

    def landed(self, flights: Flights) -> None:
        """For any thread: a request has ended."""


class _Visit:
    """A stay inside the gate, for requests that began together."""

    __slots__ = ("left", "node")

    def __init__(self, node: Node, left: int) -> None:
        self.node = node
        self.left = left


class _Flight(Transfer):
    """One request. ``owner`` are the flights of its connection."""

    __slots__ = ("cookie", "is_placed", "owner", "started", "visit")

    visit: _Visit

    def __init__(
        self, owner: Flights, cookie: int, offset: int, length: int, data: memoryview | None, started: int
    ) -> None:
        super().__init__(offset, length, data, owner.landed, owner.attendant.wake)
        self.owner = owner
        self.cookie = cookie
        self.started = started
        self.is_placed = False
        """Whether the reply has been added."""

    def fill(self, data: memoryview) -> None:
        """Take what was read: into the client's replies, if that can be."""
        self.is_placed = self.owner.place(self, data)
        if not self.is_placed:
            super().fill(data)


class Flights:
    """Of one connection, for the thread that serves it: its ``attendant`` at the time."""

    def __init__(self, session: Flying, attendant: Attendant) -> None:
        self._session = session
        self.attendant = attendant
        self._lock = threading.Lock()
        self.landed: Callable[[_Flight], None] = self._landed
        self.replies = session.replies
        self._ended: deque[_Flight] = deque()
        self._bytes = 0
        self.is_at_end = False
        """Whether the client has closed its end."""
        self.count = 0
        """Requests without a reply."""

    @property
    def has_ended(self) -> bool:
        """Whether replies are due."""
        return bool(self._ended)

    @property
    def are_all_ended(self) -> bool:
        """Whether none is under way any more; replies may be due."""
        return len(self._ended) == self.count

    @property
    def reads(self) -> bool:
        """Whether to receive requests: there is room for many, and the client has not closed its end."""
        return not self.is_at_end and self._session.end - self._session.start < self._session.piece

    def begin(self, node: Node, start: Start, longest: int = MOST_BYTES) -> bool:
        """Begin the plain requests at the front of the buffer, from inside the gate.

        ``longest``: bytes of the longest that is begun. Return whether it has begun any; then the stay inside
        the gate is its own.
        """
        session = self._session
        flights, position, size = self._plain(node.size, min(session.piece, longest))
        if not flights:
            return False
        visit = _Visit(node, len(flights))
        for flight in flights:
            flight.visit = visit
        if not start(flights):
            return False
        session.start = position
        self.count += len(flights)
        self._bytes += size
        self.attendant.carriers.update(each.carrier for each in flights if each.carrier is not None)
        return True

    def begin_more(self, longest: int = MOST_BYTES) -> bool:
        """Begin the plain requests at the front if the gate is open; return whether it has begun any."""
        session = self._session
        if session.end == session.start or self.count >= MOST:
            return False
        try:
            is_inside = session.gate.enter_now()
        except GateShutError:  # the requests are turned away when the others have ended
            return False
        if not is_inside:
            return False
        has_begun = False
        try:
            node = session.disk.node
            start = starter(node)
            has_begun = start is not None and self.begin(node, start, longest)
        finally:
            if not has_begun:
                session.gate.leave()
        return has_begun

    def _plain(self, size: int, longest: int) -> tuple[list[_Flight], int, int]:
        """Return the plain requests at the front, where they end, and the bytes of their data."""
        session, form = self._session, self._session.form
        requests, position, end = session.requests, session.start, session.end
        found: list[_Flight] = []
        room, total = MOST - self.count, self._bytes
        most = session.piece if session.piece < MOST_BYTES // 4 else MOST_BYTES
        started = monotonic_ns()
        header, known, unpack = form.size, form.magic, form.unpack_from
        while end - position >= header and len(found) < room:
            magic, flags, command, cookie, offset, length = unpack(requests, position)
            data = position + header
            total += length
            if magic != known or not 0 < length <= longest or offset + length > size or total > most:
                break
            if command == READ and not flags:
                position, payload = data, None
            elif command == WRITE and session.writable and not flags & ~form.payload_flag:
                if data + length > end:
                    break
                position, payload = data + length, requests[data : data + length]
            else:
                break
            if NBD_RECEIVE_REQUEST.enabled:
                session.trace(flags, command, cookie, offset, length)
            found.append(_Flight(self, cookie, offset, length, payload, started))
        return found, position, sum(each.length for each in found)

    # The ends

    def place(self, flight: _Flight, data: memoryview) -> bool:
        """Add the reply to a read if the thread that serves the client receives it, and it fits."""
        receives_from = self.attendant.receives_from
        if receives_from is None or flight.carrier is not receives_from or self._session.has_unsent:
            return False
        return self.replies.put_data(flight.cookie, flight.offset, data)

    def _landed(self, flight: _Flight) -> None:
        if not flight.is_lost:
            self._leave(flight.visit)
        self._ended.append(flight)
        self.attendant.landed(self)

    def _leave(self, visit: _Visit) -> None:
        with self._lock:
            visit.left -= 1
            is_last = not visit.left
        if is_last:
            self._session.gate.leave()

    def reply(self, *, again: bool) -> None:
        """Add the replies to what has ended, as far as they fit.

        ``again``: do what was lost again, which may wait; else stop there.
        """
        session, replies = self._session, self.replies
        now, done = monotonic_ns(), Done()
        while self._ended:
            flight = self._ended[0]
            length = flight.length
            if not (flight.is_placed or replies.has_room(0 if flight.is_write else length)):
                break
            if flight.is_lost and not again:
                break
            self._ended.popleft()
            self.count -= 1
            self._bytes -= length
            if flight.is_lost:
                self._do_again(flight)
            if flight.error is not None:
                command = WRITE if flight.is_write else READ
                error = session.failures.tell(flight.error, command, flight.offset, length)
                replies.add_error(flight.cookie, command, error, flight.offset)
            elif flight.is_write:
                replies.add_done(flight.cookie, WRITE, flight.offset)
                done.write(length, now - flight.started)
            else:
                if not flight.is_placed:
                    replies.space(length)[:] = flight.buffer
                    replies.add_data(flight.cookie, flight.offset, length)
                done.read(length, now - flight.started)
        session.counters.count_done(done, now)

    def _do_again(self, flight: _Flight) -> None:
        """Do what was lost in the way that waits, such as for a new connection."""
        node = flight.visit.node
        try:
            if flight.is_write:
                node.write(flight.offset, flight.buffer)
            else:
                node.read_into(flight.offset, flight.buffer)
        except OSError as error:
            flight.error = error
        finally:
            self._leave(flight.visit)

    def forget(self) -> None:
        """Forget what has ended, without replies: the client has left."""
        while self._ended:
            flight = self._ended.popleft()
            self.count -= 1
            if flight.is_lost:
                self._leave(flight.visit)

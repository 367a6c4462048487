"""The reads and writes of one client that are under way on a node that is far away.

Several requests are under way at a time, and are answered as they end. Only plain ones are: all else waits
until these have ended. So a flush covers what was answered before it, and what was begun before it.

One thread does all for a client: it polls its socket and the node's. It never waits for the client while
requests are under way, so that a client that does not take its replies does not hold up the gate.
"""

from __future__ import annotations

import os
import select
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

    def receive_now(self) -> bool:
        """Receive what the socket has; return False if the client has closed it."""

    def send_now(self) -> bool:
        """Send the replies as far as the socket takes them; return whether it has taken all."""


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
        super().__init__(offset, length, data, owner.landed, owner.wake)
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
    """Of one connection, for the thread that serves it. ``close`` it when none is under way."""

    def __init__(self, session: Flying) -> None:
        self._session = session
        self._lock = threading.Lock()
        self._awake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self.wake: Callable[[], None] = self._wake_up
        self.landed: Callable[[_Flight], None] = self._landed
        self.replies = session.replies
        self._receives_from: Carrier | None = None
        """What this thread receives from now, with room for replies."""
        self._ended: deque[_Flight] = deque()
        self._carriers: set[Carrier] = set()
        self._bytes = 0
        self._is_at_end = False
        """Whether the client has closed its end."""
        self.count = 0
        """Requests without a reply."""

    def close(self) -> None:
        """Free what it holds."""
        os.close(self._awake)

    def begin(self, node: Node, start: Start) -> bool:
        """Begin the plain requests at the front of the buffer, from inside the gate.

        Return whether it has begun any; then the stay inside the gate is its own.
        """
        session = self._session
        flights, position, size = self._plain(node.size)
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
        self._carriers.update(each.carrier for each in flights if each.carrier is not None)
        return True

    def _plain(self, size: int) -> tuple[list[_Flight], int, int]:
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
            if magic != known or not 0 < length <= session.piece or offset + length > size or total > most:
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
        receives_from = self._receives_from
        if receives_from is None or flight.carrier is not receives_from:
            return False
        return self.replies.put_data(flight.cookie, flight.offset, data)

    def _wake_up(self) -> None:
        if self._is_asleep:
            os.eventfd_write(self._awake, 1)

    def _landed(self, flight: _Flight) -> None:
        if not flight.is_lost:
            self._leave(flight.visit)
        self._ended.append(flight)
        self._wake_up()

    def _leave(self, visit: _Visit) -> None:
        with self._lock:
            visit.left -= 1
            is_last = not visit.left
        if is_last:
            self._session.gate.leave()

    def go_on(self) -> None:
        """Begin more, wait until something happens, and reply to what has ended."""
        session = self._session
        if not session.polls_client:
            self._sleep(may_reply=True)
            self._reply()
            if self._ended:  # the replies do not fit
                session.socket.sendall(session.replies.take())
            return
        is_sent = session.send_now()
        if is_sent:
            self._begin_more()
        events = select.POLLOUT if not is_sent else select.POLLIN if self._reads else 0
        is_ready = self._sleep(events, may_reply=is_sent)
        if is_sent:
            if is_ready and not session.receive_now():
                self._is_at_end = True
            self._reply()
            session.send_now()

    @property
    def _reads(self) -> bool:
        """Whether to receive requests: there is room for many, and the client has not closed its end."""
        return not self._is_at_end and self._session.end - self._session.start < self._session.piece

    def _begin_more(self) -> None:
        session = self._session
        if session.end == session.start or self.count >= MOST:
            return
        try:
            is_inside = session.gate.enter_now()
        except GateShutError:  # the requests are turned away when the others have ended
            return
        if not is_inside:
            return
        has_begun = False
        try:
            node = session.disk.node
            start = starter(node)
            has_begun = start is not None and self.begin(node, start)
        finally:
            if not has_begun:
                session.gate.leave()

    def _sleep(self, client: int = 0, *, may_reply: bool = False) -> bool:
        """Wait until something has happened, and receive ends.

        ``client`` are the events of the client's socket to wait for. Return whether it is ready.
        ``may_reply``: replies may be added meanwhile.
        """
        number = self._session.socket.fileno()
        poll = select.poll()
        poll.register(self._awake, select.POLLIN)
        if client:
            poll.register(number, client)
        claimed: dict[int, Carrier] = {}
        self._is_asleep = True
        try:
            for carrier in self._carriers:
                if carrier.claim():
                    claimed[carrier.fileno()] = carrier
                    poll.register(carrier.fileno(), select.POLLIN)
            is_at_once = bool(self._ended) or any(each.has_more for each in claimed.values())
            events = {ready for ready, _ in poll.poll(0 if is_at_once else None)}
            self._is_asleep = False
            for each, carrier in claimed.items():
                if each in events or carrier.has_more:
                    self._receives_from = carrier if may_reply else None
                    carrier.receive()
        finally:
            self._is_asleep = False
            self._receives_from = None
            for carrier in claimed.values():
                carrier.release(self.wake)
        if self._awake in events:
            os.eventfd_read(self._awake)
        return number in events

    def _reply(self) -> None:
        """Add the replies to what has ended, as far as they fit."""
        session, replies = self._session, self.replies
        now, done = monotonic_ns(), Done()
        while self._ended:
            flight = self._ended[0]
            length = flight.length
            if not (flight.is_placed or replies.has_room(0 if flight.is_write else length)):
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
        if not self.count:
            self._carriers.clear()

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

    def wait(self) -> None:
        """Wait until all have ended, without replies: the client has left."""
        while self.count:
            if not self._ended:
                self._sleep()
            while self._ended:
                flight = self._ended.popleft()
                self.count -= 1
                if flight.is_lost:
                    self._leave(flight.visit)
        self._carriers.clear()

"""The clients of a disk whose requests are under way, all served by the thread of its loop.

With a thread for each client the threads took turns at receiving, and woke each other for each reply.
"""

from __future__ import annotations

import select
from collections import deque
from collections.abc import Callable

from qmon.block.transfers import Carrier
from qmon.nbd.connection import Connection
from qmon.nbd.flights import Flights
from qmon.nbd.plain import PLAIN_BYTES

Events = list[tuple[int, int]]
"""What epoll says: descriptors and their events."""


class FarClients:
    """The attendant of their flights. ``wake_loop``, for any thread: ``epoll`` has something to say."""

    def __init__(self, wake_loop: Callable[[], None]) -> None:
        self._wake_loop = wake_loop
        self.wake: Callable[[], None] = self._wake_up
        self.carriers: set[Carrier] = set()
        self.receives_from: Carrier | None = None
        self._clients: dict[Flights, Connection] = {}
        self._landed: deque[Flights] = deque()
        self._is_asleep = False

    def begin(self, connection: Connection) -> Flights:
        """Begin small plain requests of a connection, if there are such now; return what is under way."""
        flights = connection.attended(self)
        if flights.begin_more(PLAIN_BYTES):
            self._clients[flights] = connection
        return flights

    def leave(self, connection: Connection) -> None:
        """Forget a connection: nothing of it is under way any more, or a worker serves it now."""
        if connection.flights is not None:
            self._clients.pop(connection.flights, None)
        if not self._clients:
            self.carriers.clear()

    def landed(self, flights: Flights) -> None:
        """A request has ended. For any thread."""
        self._landed.append(flights)
        self._wake_up()

    def taken(self) -> list[Connection]:
        """Return the connections with requests that have ended since the last call."""
        found: dict[Flights, None] = {}
        while self._landed:
            found[self._landed.popleft()] = None
        return [self._clients[each] for each in found if each in self._clients]

    def poll(self, epoll: select.epoll, *, at_once: bool) -> Events:
        """Wait until ``epoll`` has something to say, or a request has ended; receive the ends meanwhile."""
        self._is_asleep = True
        try:
            if self.carriers:
                self._receive(epoll, at_once=at_once)
                at_once = True
            return epoll.poll(0 if at_once or self._landed else None)
        finally:
            self._is_asleep = False

    def _receive(self, epoll: select.epoll, *, at_once: bool) -> None:
        poll = select.poll()
        poll.register(epoll.fileno(), select.POLLIN)
        claimed: dict[int, Carrier] = {}
        try:
            for carrier in self.carriers:
                if carrier.claim():
                    claimed[carrier.fileno()] = carrier
                    poll.register(carrier.fileno(), select.POLLIN)
            is_at_once = at_once or self._landed or any(each.has_more for each in claimed.values())
            ready = {number for number, _ in poll.poll(0 if is_at_once else None)}
            self._is_asleep = False
            for number, carrier in claimed.items():
                if number in ready or carrier.has_more:
                    self.receives_from = carrier
                    carrier.receive()
        finally:
            self.receives_from = None
            for carrier in claimed.values():
                carrier.release(self.wake)

    def _wake_up(self) -> None:
        if self._is_asleep:
            self._wake_loop()

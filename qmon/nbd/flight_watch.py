"""One thread that serves one client whose requests are under way: it polls the client and the carriers.

It never waits for the client while requests are under way, so that a client that does not take its replies
does not hold up the gate.
"""

from __future__ import annotations

import os
import select
from collections.abc import Callable

from qmon.block.transfers import Carrier
from qmon.nbd.flights import Flights, Flying


class FlightWatch:
    """The attendant of one client's flights, for the thread that serves it. ``close`` it at the end."""

    def __init__(self, session: Flying) -> None:
        self._session = session
        self._awake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._is_asleep = False
        self.wake: Callable[[], None] = self._wake_up
        self.carriers: set[Carrier] = set()
        self.receives_from: Carrier | None = None

    def close(self) -> None:
        """Free what it holds."""
        os.close(self._awake)

    def _wake_up(self) -> None:
        if self._is_asleep:
            os.eventfd_write(self._awake, 1)

    def landed(self, flights: Flights) -> None:
        """A request has ended."""
        self._wake_up()

    def go_on(self, flights: Flights) -> None:
        """Begin more, wait until something happens, and reply to what has ended."""
        session = self._session
        if not session.polls_client:
            self._sleep(flights, may_reply=True)
            flights.reply(again=True)
            if flights.has_ended:  # the replies do not fit
                session.socket.sendall(session.replies.take())
        else:
            is_sent = session.send_now()
            if is_sent:
                flights.begin_more()
            events = select.POLLOUT if not is_sent else select.POLLIN if flights.reads else 0
            is_ready = self._sleep(flights, events, may_reply=is_sent)
            if is_sent:
                if is_ready and not session.receive_now():
                    flights.is_at_end = True
                flights.reply(again=True)
                session.send_now()
        if not flights.count:
            self.carriers.clear()

    def wait(self, flights: Flights) -> None:
        """Wait until all have ended, without replies: the client has left."""
        while flights.count:
            if not flights.has_ended:
                self._sleep(flights)
            flights.forget()
        self.carriers.clear()

    def _sleep(self, flights: Flights, client: int = 0, *, may_reply: bool = False) -> bool:
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
            for carrier in self.carriers:
                if carrier.claim():
                    claimed[carrier.fileno()] = carrier
                    poll.register(carrier.fileno(), select.POLLIN)
            is_at_once = flights.has_ended or any(each.has_more for each in claimed.values())
            events = {ready for ready, _ in poll.poll(0 if is_at_once else None)}
            self._is_asleep = False
            for each, carrier in claimed.items():
                if each in events or carrier.has_more:
                    self.receives_from = carrier if may_reply else None
                    carrier.receive()
        finally:
            self._is_asleep = False
            self.receives_from = None
            for carrier in claimed.values():
                carrier.release(self.wake)
        if self._awake in events:
            os.eventfd_read(self._awake)
        return number in events

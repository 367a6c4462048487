"""The thread that serves the clients of one disk, and its workers.

One thread serves the small plain requests of all clients (``lean``): threads that take the interpreter from
one another cost more than the requests. It waits for sockets only. What may take longer goes to a worker
together with its connection: a thread that may wait, and that gives the connection back when it has only
plain requests again. So a disk that hangs holds up its own clients, and a slow client only itself.

On a disk that is far away, small requests of all clients are under way at the same time (``far_clients``).
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections import deque
from collections.abc import Callable

from qmon.block.gate import Gate, GateShutError
from qmon.host.threads import start_thread
from qmon.nbd.connection import Connection
from qmon.nbd.export import Disk
from qmon.nbd.far_clients import Events, FarClients
from qmon.nbd.lean import Ways, next_step, serve_plain
from qmon.nbd.plain import Next
from qmon.nbd.workers import Workers

log = logging.getLogger("qmon.nbd")

_MORE = Next.MORE
_IN, _OUT, _HANG_UP = select.EPOLLIN, select.EPOLLOUT, select.EPOLLRDHUP

Ended = Callable[[BaseException | None], None]
"""Called by a thread of the loop when a connection has ended, with what ended it unless the client did."""


class DiskLoop:
    """Serves the connections that have one gate in common. Its threads live as long as it has connections."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._changed = threading.Condition()
        self._connections: dict[Connection, Ended] = {}
        self._is_closing = False
        self._is_over = False
        self._arrived: deque[Connection] = deque()
        """Connections that are new or come back from a worker."""
        self._registered: dict[int, Connection] = {}
        self._sending: set[Connection] = set()
        """Connections whose clients do not take their replies; their requests are not read meanwhile."""
        self._waiting: set[Connection] = set()
        """Connections whose requests wait for the gate to open."""
        self._turns: dict[Connection, None] = {}
        """Connections that have requests left in their buffers."""
        self._far = FarClients(self.wake)
        self._failed: dict[Connection, BaseException] = {}
        """Connections that end as soon as no request of theirs is under way, and what ended them."""
        self._workers = Workers(self._work)
        self._thread = threading.Thread(target=self._run, name="nbd disk", daemon=True)

    def start(self) -> None:
        """Start the threads; ``add`` a connection first. Raises OSError, MemoryError."""
        self._wake = os.eventfd(1, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._wake, _IN)
        try:
            self._workers.start()
            start_thread(self._thread)
        except BaseException:
            self._workers.end()
            self._close()
            raise

    @property
    def is_over(self) -> bool:
        """Whether its threads have ended."""
        return self._is_over

    def add(self, connection: Connection, ended: Ended) -> bool:
        """Serve a connection; return False if the loop is about to end, because it has had none."""
        with self._changed:
            if self._is_closing:
                return False
            self._connections[connection] = ended
            self._arrived.append(connection)
            if self._thread.ident is not None:
                self.wake()
            return True

    def wake(self) -> None:
        """Make the thread look at its connections, such as when the gate has opened. Thread-safe."""
        os.eventfd_write(self._wake, 1)

    def settle(self) -> None:
        """If it has no connections any more, wait until its threads have ended."""
        with self._changed:
            self._changed.wait_for(lambda: self._connections or self._is_over)
            if not self._is_over:
                return
        self._thread.join()

    # The thread

    def _run(self) -> None:
        self._gate.watch(self.wake)
        try:
            while not self._may_end():
                self._serve(self._far.poll(self._epoll, at_once=bool(self._turns)))
        except Exception:
            log.exception("a thread of the NBD server has failed")
        finally:
            self._gate.unwatch(self.wake)
            self._workers.end()
            self._close()
            with self._changed:
                self._is_closing = self._is_over = True
                self._changed.notify_all()

    def _may_end(self) -> bool:
        with self._changed:
            self._is_closing = not self._connections
            return self._is_closing

    def _close(self) -> None:
        self._epoll.close()
        os.close(self._wake)

    def _serve(self, events: Events) -> None:
        """Serve what is ready: one turn for each connection, all inside the gate."""
        visit = _Visit(self._gate)
        try:
            for number, _ in events:
                connection = self._registered.get(number)
                if connection is None:
                    if number == self._wake:
                        self._news()
                elif connection.is_busy:
                    if connection in self._sending:
                        self._guarded(self._go_on_sending, connection, visit)
                    elif connection in self._waiting:
                        self._guarded(self._leave_gate, connection, visit)
                else:
                    self._guarded(self._receive, connection, visit)
            for connection in self._far.taken():
                self._guarded(self._reply, connection, visit)
            turns, self._turns = self._turns, {}
            for connection in turns:
                if self._is_idle(connection):
                    connection.is_busy = False
                    self._guarded(self._turn, connection, visit)
        finally:
            visit.leave()

    def _is_idle(self, connection: Connection) -> bool:
        """Whether a connection is still here, and can have its turn."""
        is_here = self._registered.get(connection.number) is connection
        return is_here and not any(
            connection in each for each in (self._sending, self._waiting, self._failed)
        )

    def _news(self) -> None:
        """Take connections that have arrived, and those that waited for the gate, for a turn each."""
        os.eventfd_read(self._wake)
        while self._arrived:
            connection = self._arrived.popleft()
            self._registered[connection.number] = connection
            self._watch(connection, _IN)
            self._give_turn(connection)
        if self._waiting and not self._gate.is_closed:
            for connection in self._waiting:
                self._watch(connection, _IN)
                self._give_turn(connection)
            self._waiting.clear()

    def _give_turn(self, connection: Connection) -> None:
        connection.is_busy = True
        self._turns[connection] = None

    def _guarded(
        self, step: Callable[[Connection, _Visit], None], connection: Connection, visit: _Visit
    ) -> None:
        try:
            step(connection, visit)
        except Exception as error:  # noqa: BLE001 - it ends this client alone; the server logs it
            self._fail(connection, error)

    def _receive(self, connection: Connection, visit: _Visit) -> None:
        if connection.receive_now():
            self._turn(connection, visit)
        elif connection.flights is not None and connection.has_flights:
            connection.flights.is_at_end = True
            self._watch(connection, 0)
        else:
            self._finish(connection, None)

    def _turn(self, connection: Connection, visit: _Visit) -> None:
        """Give a connection its turn, and send its replies as far as the socket takes them."""
        ways = visit.ways(connection.disk)
        if connection.has_flights or (ways is not None and ways.is_far):
            flights = self._far.begin(connection)
            if flights.count:
                self._watch(connection, _IN if flights.reads else 0)
                return
            outcome = Next.WORK
        elif ways is not None:
            outcome = serve_plain(connection, ways)
            if not self._send(connection, outcome):
                return
        else:
            outcome = next_step(connection)
            if outcome is Next.WORK and not visit.is_shut:
                connection.is_busy = True
                self._waiting.add(connection)
                self._watch(connection, _HANG_UP)
                return
        if outcome is not _MORE:
            self._follow(connection, outcome)

    def _follow(self, connection: Connection, outcome: Next) -> None:
        if outcome is Next.WORK:
            outcome = next_step(connection)
        if outcome is Next.TURN:
            self._give_turn(connection)
        elif outcome is not Next.MORE:
            if outcome is Next.END:
                self._finish(connection, None)
            else:
                self._remove(connection)
                self._workers.give(connection)

    def _send(self, connection: Connection, outcome: Next) -> bool:
        """Send the replies; return False if the client does not take them now. ``outcome`` follows then."""
        if connection.send_now():
            return True
        connection.after_sending = outcome
        connection.is_busy = True
        self._sending.add(connection)
        self._watch(connection, _OUT)
        return False

    def _go_on_sending(self, connection: Connection, visit: _Visit) -> None:
        if connection.send_now():
            self._sending.discard(connection)
            connection.is_busy = False
            self._watch(connection, _IN)
            if connection.has_flights:
                self._reply(connection, visit)
            else:
                self._follow(connection, connection.after_sending)

    def _reply(self, connection: Connection, visit: _Visit) -> None:
        """Reply to the requests of a disk far away that have ended, and begin more."""
        flights = connection.flights
        if flights is None or connection in self._sending:
            return
        if connection in self._failed:
            self._fail(connection, self._failed[connection])
            return
        while flights.has_ended:
            flights.reply(again=False)
            if not connection.replies.filled:
                break
            if not self._send(connection, Next.TURN):
                return
        if flights.has_ended:  # something was lost: a worker does it again when all others have ended
            if flights.are_all_ended:
                self._remove(connection)
                self._workers.give(connection)
        elif flights.count or not flights.is_at_end:
            if not flights.count:
                self._far.leave(connection)
                self._watch(connection, _IN)
            self._turn(connection, visit)
        else:
            self._finish(connection, None)

    def _fail(self, connection: Connection, error: BaseException) -> None:
        """End a connection because of an error, when no request is under way any more."""
        flights = connection.flights
        if flights is not None:
            flights.forget()
        if flights is not None and flights.count:
            self._sending.discard(connection)
            self._watch(connection, 0)
            self._failed[connection] = error
        else:
            self._failed.pop(connection, None)
            self._finish(connection, error)

    def _leave_gate(self, connection: Connection, visit: _Visit) -> None:
        """The client has disconnected while its requests waited: forget them unless the gate is open now."""
        if self._gate.is_closed:
            log.debug("export '%s': a client disconnected while its requests waited", connection.name)
            self._finish(connection, None)
        else:
            self._waiting.discard(connection)
            self._watch(connection, _IN)
            self._give_turn(connection)

    def _watch(self, connection: Connection, events: int) -> None:
        """Wait for these events of the client's socket; with 0 for none, not even its end."""
        before, connection.watched = connection.watched, events
        if not before and events:
            self._epoll.register(connection.number, events)
        elif before and not events:
            self._epoll.unregister(connection.number)
        elif before != events:
            self._epoll.modify(connection.number, events)

    def _finish(self, connection: Connection, error: BaseException | None) -> None:
        self._remove(connection)
        self._end(connection, error)

    def _remove(self, connection: Connection) -> None:
        """Unregister a connection, which others may serve or close now."""
        if self._registered.pop(connection.number, None) is not None:
            self._sending.discard(connection)
            self._waiting.discard(connection)
            connection.is_busy = False
            self._far.leave(connection)
            self._watch(connection, 0)

    def _end(self, connection: Connection, error: BaseException | None) -> None:
        """A connection has ended. Any thread of the loop may call this for a connection that it serves."""
        with self._changed:
            ended = self._connections.pop(connection)
            if not self._connections:
                self.wake()
        ended(error)

    def _work(self, connection: Connection) -> None:
        """Serve a connection in a worker's thread until it has only plain requests, or has ended."""
        try:
            goes_on = connection.work()
        except Exception as error:  # noqa: BLE001 - it ends this client alone; the server logs it
            self._end(connection, error)
            return
        if goes_on:
            self._arrived.append(connection)
            self.wake()
        else:
            self._end(connection, None)


class _Visit:
    """One round's stay inside the gate; it begins with the first request."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate
        self._is_inside = False
        self._is_turned_away = False
        self.is_shut = False
        self._disk: Disk | None = None
        self._ways: Ways | None = None

    def ways(self, disk: Disk) -> Ways | None:
        """Enter the gate; return how a disk serves plain requests, None if the gate is closed or shut."""
        if disk is self._disk:
            return self._ways
        if not self._is_inside and (self._is_turned_away or not self._enter()):
            return None
        self._disk = disk
        self._ways = Ways(disk.node)
        return self._ways

    def _enter(self) -> bool:
        try:
            self._is_inside = self._gate.enter_now()
        except GateShutError:
            self.is_shut = True
        self._is_turned_away = not self._is_inside
        return self._is_inside

    def leave(self) -> None:
        if self._is_inside:
            self._gate.leave()

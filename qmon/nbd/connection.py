"""The transmission phase of one connection: requests from a socket, served from a disk.

doc/proto.md, "Transmission". A thread reads what the socket has, enters the disk's gate once, serves all
complete requests, and sends all replies at once before it waits again. The thread is either the connection's
own (``run``), or the disk's loop (``disk_loop``), which hands it to a worker (``work``) when it has to wait.
"""

from __future__ import annotations

import logging
import select
import socket
import struct
import time
from time import monotonic_ns

from qmon.block import hints
from qmon.block.accounts import Counters
from qmon.block.gate import GateShutError, WaiterGoneError
from qmon.block.node import Node
from qmon.block.together import begin
from qmon.block.transfers import starter
from qmon.host.trace import NBD_RECEIVE_REQUEST
from qmon.nbd.constants import Error
from qmon.nbd.failures import Failures
from qmon.nbd.flight_watch import FlightWatch
from qmon.nbd.flights import Attendant, Flights
from qmon.nbd.forms import COMPACT_FORM, EXTENDED_FORM
from qmon.nbd.handshake import Agreement, ProtocolError
from qmon.nbd.limits import LARGE_BUFFERS, LARGE_PIECE, LIMITS, MAX_DISCARDED, SMALL_PIECE, Limits
from qmon.nbd.long_requests import serve_long_read, take_long_payload
from qmon.nbd.plain import PLAIN_BYTES, Next
from qmon.nbd.replies import Replies, allocate
from qmon.nbd.rules import (
    BLOCK_STATUS,
    CACHE,
    DF,
    DISC,
    FAST_ZERO,
    FLUSH,
    FUA,
    NO_HOLE,
    PAYLOAD_LEN,
    READ,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    Rules,
)
from qmon.nbd.sparse import read_parts
from qmon.nbd.status import serve_status

log = logging.getLogger("qmon.nbd")

_DONT_WAIT = int(socket.MSG_DONTWAIT)

_PATIENCE = struct.pack("@ll", 0, 20_000)
"""How long a worker waits for the next request: seconds and microseconds, as SO_RCVTIMEO takes them."""

_ENOTSUP, _ESHUTDOWN = int(Error.ENOTSUP), int(Error.ESHUTDOWN)


class Connection:
    """Serves one client. ``piece``: bytes of a request's data held at once, None: what the budget allows.

    ``counters`` are of the disk's accounts; only the thread that serves the client at the time writes them.
    Call ``close`` at the end.
    """

    def __init__(
        self,
        sock: socket.socket,
        agreement: Agreement,
        counters: Counters,
        piece: int | None = None,
        limits: Limits = LIMITS,
    ) -> None:
        export = agreement.export
        self._borrowed = 0
        if piece is None:
            wanted = 2 * (LARGE_PIECE + limits.slack)
            is_large = LARGE_BUFFERS.take(wanted)
            self._borrowed = wanted if is_large else 0
            piece = LARGE_PIECE if is_large else SMALL_PIECE
        self.name = export.name
        self.socket = sock
        self._receive_into, self._send = sock.recv_into, sock.send
        self.number = sock.fileno()
        self.disk = export.disk
        self.gate = export.disk.gate
        self.counters = counters
        self.writable = export.writable
        self.failures = Failures(export, self.counters)
        self.contexts = agreement.contexts
        self.form = EXTENDED_FORM if agreement.extended else COMPACT_FORM
        self._rules = Rules(agreement)
        self.refusal = self._rules.refusal
        self.piece = piece
        self._limits = limits
        self.most_extents = limits.extents
        self.requests = allocate(piece + limits.slack)
        self.start, self.end = 0, len(agreement.rest)
        self.requests[: self.end] = agreement.rest
        self.replies = Replies(
            piece + limits.slack, structured=agreement.structured, extended=agreement.extended
        )
        self._unflushed: list[int] = []
        self._linger_until: float | None = None
        self.wait_all = socket.MSG_WAITALL if type(sock) is socket.socket else 0  # TLS knows no flags
        self._poll = select.poll()
        self._poll.register(sock, select.POLLRDHUP)
        self._unsent: memoryview | None = None
        self.flights: Flights | None = None
        self._watch: FlightWatch | None = None
        self.polls_client = type(sock) is socket.socket
        self.is_busy = False
        """Whether the loop waits for something else than requests."""
        self.after_sending = Next.MORE
        """What the connection needs when its client has taken the replies."""
        self.watched = 0
        """The events of the client's socket that the loop waits for."""
        self._is_far = False
        """Whether the disk was far away at the last batch: the loop can have its requests under way."""
        self._has_own_thread = False
        self._is_patient = False
        self._has_waited = False
        """Whether a request of the last batch had to wait, or took long."""

    def run(self) -> None:
        """Serve until the client disconnects, its socket is shut down, or the disk has moved.

        Raises ProtocolError when the client breaks the protocol, OSError when the socket fails.
        """
        self._has_own_thread = True
        self.work()

    def close(self) -> None:
        """Give the buffers back."""
        self.flights = None
        if self._watch is not None:
            self._watch.close()
            self._watch = None
        LARGE_BUFFERS.give(self._borrowed)
        self._borrowed = 0

    def work(self) -> bool:
        """Serve until all requests are plain again, and return True; False when the connection is at its end.

        This may wait for the disk and the client. Raises as ``run``.
        """
        if not (self._is_patient or self._has_own_thread):
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, _PATIENCE)
            self._is_patient = True
        self._has_waited = True
        has_served = False
        try:
            while True:
                if self.has_flights:
                    watch = self._own_watch()
                    watch.go_on(self.attended(watch))
                    has_served = True
                    continue
                if self._unsent is not None or self.replies.filled:
                    self._send_rest()
                request = self.next_request()
                if request is None:
                    if not self._has_waited:
                        return True
                    try:
                        if not self._receive():
                            return False
                    except BlockingIOError:
                        return True
                    continue
                if request[1] == DISC:
                    return False
                if has_served and self._is_for_loop(*request):
                    return True
                self._has_waited = has_served = True
                self._serve_next(*request)
                self.socket.sendall(self.replies.take())
        except WaiterGoneError:
            log.debug("export '%s': a client disconnected while its requests waited", self.name)
            return False
        finally:
            if self.flights is not None and self.flights.count:
                self._own_watch().wait(self.flights)

    def _is_for_loop(self, flags: int, command: int, cookie: int, offset: int, length: int) -> bool:
        """Whether the loop can have this request under way beside those of other clients."""
        is_plain = command in (READ, WRITE) and not flags & ~self.form.payload_flag
        return self._is_far and is_plain and length <= PLAIN_BYTES and not self._has_own_thread

    def _own_watch(self) -> FlightWatch:
        if self._watch is None:
            self._watch = FlightWatch(self)
        return self._watch

    def attended(self, attendant: Attendant) -> Flights:
        """Return the flights, whose attendant changes if none is under way."""
        if self.flights is None:
            self.flights = Flights(self, attendant)
        if self.flights.are_all_ended:
            self.flights.attendant = attendant
        return self.flights

    @property
    def has_flights(self) -> bool:
        """Whether requests are under way, or have ended without a reply."""
        return self.flights is not None and self.flights.count > 0

    @property
    def has_unsent(self) -> bool:
        """Whether the client has not taken all replies."""
        return self._unsent is not None

    def _send_rest(self) -> None:
        """Wait until the client has taken its replies."""
        unsent, self._unsent = self._unsent, None
        self.socket.sendall(self.replies.take() if unsent is None else unsent)

    def _serve_next(self, flags: int, command: int, cookie: int, offset: int, length: int) -> None:
        """Serve the next request, and with it those that can share its visit to the disk."""
        if self.form.payload(flags, command, length) > len(self.requests) - self.form.size:
            take_long_payload(self, command, flags, cookie, offset, length)
        elif command == READ and length > self.replies.room and not flags & PAYLOAD_LEN:
            serve_long_read(self, flags, cookie, offset, length)
        else:
            self._serve_batch()

    def receive_now(self) -> bool:
        """Receive what the socket has; return False if the client has closed it."""
        room = self.requests
        start, end = self.start, self.end
        if start != end:
            start, end = self._make_room()
            room = room[end:]
        else:
            start = end = 0
        try:
            received = self._receive_into(room, 0, _DONT_WAIT)
        except BlockingIOError:
            return True
        self.start, self.end = start, end + received
        return received > 0

    def send_now(self) -> bool:
        """Send the replies as far as the socket takes them; return whether it has taken all."""
        unsent = self._unsent
        if unsent is None:
            if not self.replies.filled:
                return True
            unsent = self.replies.take()
        try:
            sent = self._send(unsent, _DONT_WAIT)
        except BlockingIOError:
            sent = 0
        self._unsent = None if sent == len(unsent) else unsent[sent:]
        return self._unsent is None

    def next_request(self) -> tuple[int, int, int, int, int] | None:
        """Return (flags, command, cookie, offset, length) of the next request, None if it is incomplete."""
        form = self.form
        have = self.end - self.start - form.size
        if have < 0:
            return None
        magic, flags, command, cookie, offset, length = form.unpack_from(self.requests, self.start)
        if magic != form.magic:
            raise ProtocolError(f"a request begins with {magic:#x} instead of {form.magic:#x}")
        payload = form.payload(flags, command, length)
        if payload > MAX_DISCARDED:
            raise ProtocolError(f"a request with {payload} bytes of data is too long")
        if have < payload <= len(self.requests) - form.size:
            return None
        return flags, command, cookie, offset, length

    def _make_room(self) -> tuple[int, int]:
        """Return the start and end of what was received, moved to the front if the next request needs it."""
        start, end = self.start, self.end
        if start == end:
            self.start = self.end = 0
        elif start and end > self.piece:
            self.requests[: end - start] = self.requests[start:end]
            self.start, self.end = 0, end - start
        return self.start, self.end

    def _receive(self) -> bool:
        """Wait for more bytes; return whether any came."""
        start, end = self._make_room()
        if self._linger_until is not None:
            left = self._linger_until - time.monotonic()
            if left <= 0:
                return False
            self.socket.settimeout(min(left, self._limits.linger_seconds))
        try:
            received = self.socket.recv_into(self.requests[end:])
        except TimeoutError:
            received = 0
        self.start, self.end = start, end + received
        return received > 0

    def _gone(self) -> bool:
        return bool(self._poll.poll(0))

    def enter(self) -> Node | None:
        """Enter the gate and return the node. If the disk has moved, return None without entering."""
        if self._linger_until is not None:
            return None
        try:
            self.gate.enter(self._gone)
        except GateShutError:
            self._linger_until = time.monotonic() + self._limits.linger_total_seconds
            return None
        try:
            return self.disk.node
        except BaseException:
            self.gate.leave()
            raise

    def _serve_batch(self) -> None:
        """Serve the complete requests in the buffer, as long as their replies fit."""
        node = self.enter()
        batch = begin()
        try:
            if node is not None and self._begin_flights(node):
                node = None  # they leave the gate
                return
            is_far = node is not None and self._is_far
            size = 0 if node is None else node.size
            self._has_waited = self._has_own_thread or node is None or NBD_RECEIVE_REQUEST.enabled
            requests, position, end = self.requests, self.start, self.end
            form, replies = self.form, self.replies
            while end - position >= form.size:
                magic, flags, command, cookie, offset, length = form.unpack_from(requests, position)
                data = position + form.size
                after = data + form.payload(flags, command, length)
                if after > end or magic != form.magic or command == DISC or not replies.has_room(0):
                    break
                if is_far and position != self.start and command in (READ, WRITE) and not flags:
                    break
                if NBD_RECEIVE_REQUEST.enabled:
                    self.trace(flags, command, cookie, offset, length)
                if node is None:
                    replies.add_error(cookie, command, _ESHUTDOWN, offset)
                elif command == BLOCK_STATUS:
                    if not serve_status(self, node, flags, cookie, offset, length, requests[data:after]):
                        break
                elif self.refusal(command, flags, offset, length, size):
                    self.refuse(command, flags, cookie, offset, length, size)
                elif not self._serve(node, command, flags, cookie, offset, length, requests[data:after]):
                    break
                position = after
            self.start = position
            if self._unflushed and node is not None:
                self._flush(node)
        finally:
            batch.end()
            if node is not None:
                self.gate.leave()

    def _begin_flights(self, node: Node) -> bool:
        """Begin requests that go on by themselves, if the node has such; return whether there are any."""
        start = starter(node)
        self._is_far = start is not None
        return start is not None and self.attended(self._own_watch()).begin(node, start)

    def trace(self, flags: int, command: int, cookie: int, offset: int, length: int) -> None:
        """Trace a request. One whose reply does not fit is traced again when it is served."""
        text = "export=%s cookie=%#x type=%d flags=%#x offset=%#x len=%d"
        NBD_RECEIVE_REQUEST(text, self.name, cookie, command, flags, offset, length)

    def refuse(self, command: int, flags: int, cookie: int, offset: int, length: int, size: int) -> None:
        """Add the reply to a request that the rules do not allow."""
        error = self.refusal(command, flags, offset, length, size)
        text = self._rules.reason(command, flags, offset, length, size) if self.replies.structured else ""
        self.replies.add_error(cookie, command, error, offset, text=text)

    def _serve(
        self, node: Node, command: int, flags: int, cookie: int, offset: int, length: int, data: memoryview
    ) -> bool:
        """Serve one request and add its reply; or do nothing and return False if the reply does not fit."""
        replies, counters = self.replies, self.counters
        started = monotonic_ns()
        try:
            if command == READ and length:
                if not replies.has_room(length):
                    return False
                if length > PLAIN_BYTES and replies.structured and not flags & DF:
                    self._has_waited = True
                    read_parts(node, replies, cookie, offset, length, offset)
                    counters.count_read(length, started)
                    return True
                space = replies.space(length)
                if flags or length > PLAIN_BYTES or not ((now := node.read_now) and now(offset, space)):
                    self._has_waited = True
                    node.read_into(offset, space)
                replies.add_data(cookie, offset, length)
                counters.count_read(length, started)
                return True
            self._has_waited |= command != WRITE
            if length:
                if command == WRITE:
                    self._write(node, flags, offset, data)
                    counters.count_write(length, started)
                elif command == WRITE_ZEROES:
                    unmap = not flags & NO_HOLE
                    if flags & FAST_ZERO and not hints.zeroes_fast(node, offset, length, unmap=unmap):
                        replies.add_error(cookie, command, _ENOTSUP, offset)
                        return True
                    node.zero(offset, length, unmap=unmap)
                    counters.count_write(length, started)
                elif command == TRIM:
                    node.discard(offset, length)
                    counters.count_discard(length, started)
                elif command == CACHE:
                    hints.prefetch(node, offset, length)
        except (OSError, MemoryError) as failure:
            error = self.failures.tell(failure, command, offset, length)
            replies.add_error(cookie, command, error, offset)
            return True
        place = replies.add_done(cookie, command, offset)
        if command == FLUSH or (flags & FUA and command not in (READ, CACHE)):
            self._unflushed.append(place)
            replies.reserve()
        return True

    def _write(self, node: Node, flags: int, offset: int, data: memoryview) -> None:
        is_plain = not flags & ~self.form.payload_flag and len(data) <= PLAIN_BYTES
        if not (is_plain and (now := node.write_now) and now(offset, data)):
            self._has_waited = True
            node.write(offset, data)

    def _flush(self, node: Node) -> None:
        """Flush once for all requests of this batch that ask for it, before they are answered."""
        started = monotonic_ns()
        try:
            node.flush()
            self.counters.count_flush(started)
        except (OSError, MemoryError) as failure:
            error = self.failures.tell(failure, FLUSH, 0, 0)
            self.replies.fail(self._unflushed, error)
        finally:
            self._unflushed.clear()
            self.replies.unreserve()

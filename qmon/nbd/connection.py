"""The transmission phase of one connection: requests from a socket, served from a disk.

doc/proto.md, "Transmission". A thread reads what the socket has, enters the disk's gate once, serves all
complete requests, and sends all replies at once before it waits again.
"""

from __future__ import annotations

import errno
import logging
import select
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from time import monotonic_ns

from qmon.block.accounts import Counters
from qmon.block.gate import GateShutError, WaiterGoneError
from qmon.block.node import Node
from qmon.host.budget import Budget
from qmon.host.trace import NBD_RECEIVE_REQUEST
from qmon.nbd.constants import (
    REQUEST,
    REQUEST_MAGIC,
    Error,
)
from qmon.nbd.failures import Failures
from qmon.nbd.handshake import Agreement, ProtocolError
from qmon.nbd.replies import STATUS_HEAD, Replies, allocate
from qmon.nbd.rules import (
    BLOCK_STATUS,
    DF,
    DISC,
    FLUSH,
    FUA,
    NO_HOLE,
    READ,
    REQ_ONE,
    TRIM,
    WRITE,
    WRITE_ZEROES,
    Rules,
)

log = logging.getLogger("qmon.nbd")

LARGE_PIECE = 1280 << 10
SMALL_PIECE = 64 << 10
"""How much of a request's data a connection holds at once. It fits Linux's own client, or one cluster.

A longer request is served piece by piece, so that a client that stops reading or sending binds no more
memory. 1 MiB reads in pieces of 128 KiB were as fast as whole, in pieces of 64 KiB 0.75 times as fast.
"""

LARGE_BUFFERS = Budget(64 << 20)
"""Limit of the large buffers of all connections. When it is used up, further clients get small ones."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The limits of one connection, in bytes, extents and seconds."""

    slack: int = 16 << 10
    """Room in the buffers besides a piece of data, for headers and small requests and replies."""
    extents: int = 4096
    """The most extents that one BLOCK_STATUS reply covers; the client asks again for the rest."""
    handshake_seconds: float = 10.0
    linger_seconds: float = 0.25
    linger_total_seconds: float = 2.0
    """After a disk has moved, how long its connection waits for one more request, and in all."""


LIMITS = Limits()

_HEADER = REQUEST.size
_ESHUTDOWN = int(Error.ESHUTDOWN)


def serve(sock: socket.socket, agreement: Agreement, counters: Counters, limits: Limits) -> None:
    """Serve a client from the end of its handshake until it disconnects. Raises as ``Connection.run``."""
    with LARGE_BUFFERS.borrow(2 * (LARGE_PIECE + limits.slack)) as is_large:
        Connection(sock, agreement, counters, LARGE_PIECE if is_large else SMALL_PIECE, limits).run()


class Connection:
    """Serves one client; its thread calls ``run``. ``piece``: bytes of a request's data held at once.

    ``counters`` are of the disk's accounts; only this thread writes them.
    """

    def __init__(
        self,
        sock: socket.socket,
        agreement: Agreement,
        counters: Counters,
        piece: int,
        limits: Limits = LIMITS,
    ) -> None:
        export = agreement.export
        self._name = export.name
        self._socket = sock
        self._disk = export.disk
        self._gate = export.disk.gate
        self._counters = counters
        self._failures = Failures(export, self._counters)
        self._contexts = agreement.contexts
        self._refusal = Rules(agreement).refusal
        self._piece = piece
        self._limits = limits
        self._requests = allocate(piece + limits.slack)
        self._start, self._end = 0, len(agreement.rest)
        self._requests[: self._end] = agreement.rest
        self._replies = Replies(piece + limits.slack, structured=agreement.structured)
        self._unflushed: list[int] = []
        self._linger_until: float | None = None
        self._poll = select.poll()
        self._poll.register(sock, select.POLLRDHUP)

    def run(self) -> None:
        """Serve until the client disconnects, its socket is shut down, or the disk has moved.

        Raises ProtocolError when the client breaks the protocol, OSError when the socket fails.
        """
        try:
            while True:
                request = self._next_request()
                if request is None:
                    if not self._receive():
                        return
                    continue
                flags, command, cookie, offset, length = request
                if command == DISC:
                    return
                if command == WRITE and length > len(self._requests) - _HEADER:
                    self._serve_long_write(flags, cookie, offset, length)
                elif command == READ and length > self._replies.room:
                    self._serve_long_read(flags, cookie, offset, length)
                else:
                    self._serve_batch()
                self._socket.sendall(self._replies.take())
        except WaiterGoneError:
            log.debug("export '%s': a client disconnected while its requests waited", self._name)

    def _next_request(self) -> tuple[int, int, int, int, int] | None:
        """Return (flags, command, cookie, offset, length) of the next request, None if it is incomplete."""
        have = self._end - self._start
        if have < _HEADER:
            return None
        magic, flags, command, cookie, offset, length = REQUEST.unpack_from(self._requests, self._start)
        if magic != REQUEST_MAGIC:
            raise ProtocolError(f"a request begins with {magic:#x} instead of {REQUEST_MAGIC:#x}")
        if command == WRITE and have - _HEADER < length <= len(self._requests) - _HEADER:
            return None
        return flags, command, cookie, offset, length

    def _receive(self) -> bool:
        """Wait for more bytes; return whether any came."""
        start, end = self._start, self._end
        if start == end:
            start = end = 0
        elif start and end > self._piece:
            # Move the beginning of the next request to the front, so that all of it fits.
            self._requests[: end - start] = self._requests[start:end]
            start, end = 0, end - start
        if self._linger_until is not None:
            left = self._linger_until - time.monotonic()
            if left <= 0:
                return False
            self._socket.settimeout(min(left, self._limits.linger_seconds))
        try:
            received = self._socket.recv_into(self._requests[end:])
        except TimeoutError:
            received = 0
        self._start, self._end = start, end + received
        return received > 0

    def _gone(self) -> bool:
        return bool(self._poll.poll(0))

    def _enter(self) -> Node | None:
        """Enter the gate and return the node. If the disk has moved, return None without entering."""
        if self._linger_until is not None:
            return None
        try:
            self._gate.enter(self._gone)
        except GateShutError:
            self._linger_until = time.monotonic() + self._limits.linger_total_seconds
            return None
        try:
            return self._disk.node
        except BaseException:
            self._gate.leave()
            raise

    def _serve_batch(self) -> None:
        """Serve the complete requests in the buffer, as long as their replies fit."""
        node = self._enter()
        try:
            size = 0 if node is None else node.size
            requests, position, end = self._requests, self._start, self._end
            while end - position >= _HEADER:
                magic, flags, command, cookie, offset, length = REQUEST.unpack_from(requests, position)
                data = position + _HEADER
                after = data + length if command == WRITE else data
                if after > end or magic != REQUEST_MAGIC or command == DISC or not self._replies.has_room(0):
                    break
                if NBD_RECEIVE_REQUEST.enabled:
                    self._trace(flags, command, cookie, offset, length)
                if node is None:
                    self._replies.add_error(cookie, command, _ESHUTDOWN)
                else:
                    error = self._refusal(command, flags, offset, length, size)
                    if error:
                        self._replies.add_error(cookie, command, error)
                    elif not self._serve(
                        node, command, flags, cookie, offset, length, self._requests[data:after]
                    ):
                        break
                position = after
            self._start = position
            if self._unflushed and node is not None:
                self._flush(node)
        finally:
            if node is not None:
                self._gate.leave()

    def _trace(self, flags: int, command: int, cookie: int, offset: int, length: int) -> None:
        """Trace a request. One whose reply does not fit is traced again when it is served."""
        text = "export=%s cookie=%#x type=%d flags=%#x offset=%#x len=%d"
        NBD_RECEIVE_REQUEST(text, self._name, cookie, command, flags, offset, length)

    def _serve(
        self, node: Node, command: int, flags: int, cookie: int, offset: int, length: int, data: memoryview
    ) -> bool:
        """Serve one request and add its reply; or do nothing and return False if the reply does not fit."""
        replies, counters = self._replies, self._counters
        started = monotonic_ns()
        try:
            if command == READ and length:
                if not replies.has_room(length):
                    return False
                node.read_into(offset, replies.space(length))
                replies.add_data(cookie, offset, length)
                counters.count_read(length, started)
                return True
            if command == BLOCK_STATUS:
                status = self._status(node, flags, offset, length)
                if not replies.has_room(sum(STATUS_HEAD + 8 * len(extents) for _, extents in status)):
                    return False
                replies.add_extents(cookie, status)
                return True
            if length:
                if command == WRITE:
                    node.write(offset, data)
                    counters.count_write(length, started)
                elif command == WRITE_ZEROES:
                    node.zero(offset, length, unmap=not flags & NO_HOLE)
                    counters.count_write(length, started)
                elif command == TRIM:
                    node.discard(offset, length)
                    counters.count_discard(length, started)
        except (OSError, MemoryError) as failure:
            replies.add_error(cookie, command, self._failures.tell(failure, command, offset, length))
            return True
        place = replies.add_done(cookie, command)
        if command == FLUSH or (flags & FUA and command != READ):
            self._unflushed.append(place)
        return True

    def _flush(self, node: Node) -> None:
        """Flush once for all requests of this batch that ask for it, before they are answered."""
        started = monotonic_ns()
        try:
            node.flush()
            self._counters.count_flush(started)
        except (OSError, MemoryError) as failure:
            error = self._failures.tell(failure, FLUSH, 0, 0)
            for place in self._unflushed:
                self._replies.fail(place, error)
        finally:
            self._unflushed.clear()

    def _status(
        self, node: Node, flags: int, offset: int, length: int
    ) -> list[tuple[int, list[tuple[int, int]]]]:
        """Return for each context its id, and pairs (length, status) from ``offset`` on. Raises OSError."""
        room = self._replies.room // len(self._contexts) - STATUS_HEAD
        most = min(self._limits.extents, room // 8)
        only_one = bool(flags & REQ_ONE)
        return [
            (id, _extents(context.runs(node, offset, length), most, only_one=only_one))
            for id, context in self._contexts
        ]

    def _serve_long_write(self, flags: int, cookie: int, offset: int, length: int) -> None:
        """Serve a write that is larger than the buffer. Pieces are received outside the gate.

        All data is received even after an error: the next request begins only after it.
        """
        self._trace(flags, WRITE, cookie, offset, length)
        view = self._requests
        started = monotonic_ns()
        have = self._end - self._start - _HEADER
        view[:have] = view[self._start + _HEADER : self._end]
        self._start = self._end = 0
        error = 0
        done = 0
        while done < length:
            piece = min(length - done, self._piece)
            while have < piece:
                received = self._socket.recv_into(view[have:piece], 0, socket.MSG_WAITALL)
                if not received:
                    raise ConnectionResetError(errno.ECONNRESET, "the client disconnected within a request")
                have += received
            if not error:
                error = self._serve_piece(WRITE, flags, offset, length, done, view[:piece])
            done += piece
            have -= piece
            view[:have] = view[piece : piece + have]
        if error:
            self._replies.add_error(cookie, WRITE, error)
        else:
            self._replies.add_done(cookie, WRITE)
            self._counters.count_write(length, started)

    def _serve_long_read(self, flags: int, cookie: int, offset: int, length: int) -> None:
        """Serve a read that is larger than the buffer. Pieces are sent outside the gate."""
        self._trace(flags, READ, cookie, offset, length)
        self._start += _HEADER
        started = monotonic_ns()
        if self._replies.structured and not flags & DF:
            error = self._send_in_chunks(flags, cookie, offset, length)
        else:
            error = self._send_as_a_whole(flags, cookie, offset, length)
        if error:
            self._replies.add_error(cookie, READ, error)
        else:
            self._counters.count_read(length, started)

    def _send_in_chunks(self, flags: int, cookie: int, offset: int, length: int) -> int:
        """Answer with one chunk for each piece; return the error to report in a last chunk, or 0."""
        for done, size in self._pieces(length):
            space = self._replies.space(size)
            if error := self._serve_piece(READ, flags, offset, length, done, space):
                return error
            self._replies.add_data(cookie, offset + done, size, is_last=done + size == length)
            self._socket.sendall(self._replies.take())
        return 0

    def _send_as_a_whole(self, flags: int, cookie: int, offset: int, length: int) -> int:
        """Answer with a single reply and return 0, or return the error to reply with.

        After the header is sent, a failure can only close the connection (ConnectionAbortedError). So data
        that does not fit the buffer is read twice: first to its end as a check, then to be sent.
        """
        for done, size in self._pieces(length):
            if error := self._serve_piece(READ, flags, offset, length, done, self._replies.rest(size)):
                return error
        self._replies.begin_data(cookie, offset, length)
        for done, size in self._pieces(length):
            if self._serve_piece(READ, flags, offset, length, done, self._replies.rest(size)):
                raise ConnectionAbortedError(errno.ECONNABORTED, "a read failed after its reply had begun")
            self._replies.filled += size
            self._socket.sendall(self._replies.take())
        return 0

    def _pieces(self, length: int) -> Iterator[tuple[int, int]]:
        """Yield (position, length) of each piece of a long request."""
        return ((done, min(self._piece, length - done)) for done in range(0, length, self._piece))

    def _serve_piece(
        self, command: int, flags: int, offset: int, length: int, done: int, piece: memoryview
    ) -> int:
        """Enter the gate and read or write one piece of a long request; return an NBD error value or 0."""
        node = self._enter()
        if node is None:
            return _ESHUTDOWN
        try:
            error = self._refusal(command, flags, offset, length, node.size)
            if not error and command == READ:
                node.read_into(offset + done, piece)
            elif not error:
                node.write(offset + done, piece)
                if flags & FUA and done + len(piece) == length:
                    node.flush()
        except (OSError, MemoryError) as failure:
            error = self._failures.tell(failure, command, offset, length)
        finally:
            self._gate.leave()
        return error


def _extents(runs: Iterator[tuple[int, int]], most: int, *, only_one: bool) -> list[tuple[int, int]]:
    """Join neighbours of one status, of at most so many runs."""
    found: list[tuple[int, int]] = []
    for length, status in islice(runs, most):
        if found and found[-1][1] == status:
            found[-1] = (found[-1][0] + length, status)
        elif found and only_one:
            break
        else:
            found.append((length, status))
    return found

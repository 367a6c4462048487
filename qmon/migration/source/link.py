"""The source's end of the connection: sends batches at the allowed rate, and receives the answers.

One thread sends, a second one reads the return path, so that answers arrive while a send blocks. An
unexpected answer or a refusal ends the connection, and wakes the threads that send or wait.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence

from qmon.errors import QmonError, reason
from qmon.host.sockets import connect
from qmon.host.threads import start_thread
from qmon.migration.progress import Progress, RateMeter, Throttle
from qmon.migration.wire.answers import Answer, AnswerError, AnswerReader, Type
from qmon.migration.wire.strangers import not_a_destination
from qmon.migration.wire.transport import Transport
from qmon.notation.strangers import FIRST_BYTES

CONNECT_TIMEOUT = 10
"""Seconds for a connection to be made."""

STALL_TIMEOUT = 30
"""Seconds after which a connection that accepts no data or owes an answer counts as lost."""

LIMIT_CHECK_SECONDS = 0.1
"""How often a waiting sender checks whether the bandwidth limit has changed."""

MAX_ANSWERS = 16
"""The most unprocessed answers; while there are so many, no more are read."""

MAX_IN_FLIGHT = 1 << 16
"""The most unconfirmed batches. With a real destination the sockets' buffers hold fewer."""

_BEFORE_DATA = frozenset({Type.AGREED, Type.REPORT})
"""While one of these is expected, no data has been sent that could be confirmed."""

_SEVERAL = frozenset({Type.ZEROS, Type.BUSY, Type.NEEDED})
"""Answers of which several may follow one request."""


_A_DESTINATION = "a qmon with -incoming, of this version"


class LinkError(QmonError):
    """The connection can't be used any more; the message says why."""


class LateAnswerError(LinkError):
    """An answer did not arrive in time; the connection may still work."""


class PeerRefusedError(QmonError):
    """The destination has refused; the message is its reason."""


def out_of_turn(kind: Type) -> LinkError:
    """Return the error of an unexpected answer."""
    return LinkError(f"the destination sent an unexpected answer {kind.name}")


class Link:
    """A connection to a destination. Any thread may call ``close``, which wakes blocked threads.

    ``peer`` is the destination's address as written; ``is_known``: it has answered on an earlier connection.
    The constructor raises OSError if the reader thread can't be started; then the socket is closed.
    """

    def __init__(self, sock: socket.socket, progress: Progress, peer: str, *, is_known: bool = False) -> None:
        self._sock = sock
        self._peer = peer
        self._first = b""
        """The first bytes that were received, until there was a valid answer."""
        self._answered = is_known
        # The kernel's timeout, not Python's: that would poll before every call.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack("ll", STALL_TIMEOUT, 0))
        self._progress = progress
        self._throttle = Throttle()
        self._meter = RateMeter()
        self._in_flight: deque[tuple[int, int]] = deque()
        self._in_flight_bytes = 0
        self._applied = 0
        self._sent_sequence = self._applied_sequence = -1
        self._expected: frozenset[Type] = frozenset()
        self._answers: deque[Answer] = deque()
        self._moved = threading.Condition()
        self._closed = threading.Event()
        self._lost: QmonError | None = None
        self._reader = threading.Thread(target=self._read, name="migration-answers", daemon=True)
        try:
            start_thread(self._reader)
        except BaseException:
            sock.close()
            raise

    @property
    def in_flight(self) -> int:
        """Bytes that are sent and not yet confirmed as applied."""
        return self._in_flight_bytes

    def send(
        self, buffers: Sequence[bytes | memoryview], size: int, sequence: int, limit: Callable[[], int]
    ) -> None:
        """Send a batch of ``size`` bytes whose last record is ``sequence``, at ``limit()`` bytes a second.

        Raises LinkError, or PeerRefusedError if the destination has refused.
        """
        self.check()
        while delay := self._throttle.delay(limit()):
            if self._closed.wait(min(delay, LIMIT_CHECK_SECONDS)):
                self.check()
                raise LinkError("the connection was closed here")
        self._throttle.note(size)
        with self._moved:
            if not self._moved.wait_for(self._may_send, STALL_TIMEOUT):
                raise LinkError(f"the destination has confirmed no data for {STALL_TIMEOUT} s")
            self._in_flight.append((sequence, size))
            self._in_flight_bytes += size
            self._sent_sequence = sequence
        try:
            self._send_all(buffers, size)
        except BlockingIOError as error:
            raise LinkError(f"the destination has accepted no data for {STALL_TIMEOUT} s") from error
        except OSError as error:
            raise self._why_lost(error) from error
        self._progress.transferred += size

    def _may_send(self) -> bool:
        return len(self._in_flight) < MAX_IN_FLIGHT or self._lost is not None

    def _send_all(self, buffers: Sequence[bytes | memoryview], size: int) -> None:
        sent = self._sock.sendmsg(buffers)
        while sent < size:
            size -= sent
            left = deque(memoryview(piece) for piece in buffers)
            while sent:
                if sent >= len(left[0]):
                    sent -= len(left.popleft())
                else:
                    left[0] = left[0][sent:]
                    sent = 0
            buffers = list(left)
            sent = self._sock.sendmsg(buffers)

    def _why_lost(self, error: OSError) -> QmonError:
        """Return the reason of a failed send. Wait a moment for the destination's own, better than EPIPE."""
        self._reader.join(1.0)
        return self._lost or LinkError(f"the connection to the destination was lost: {reason(error)}")

    def expect(self, *kinds: Type) -> None:
        """Allow one answer of these types from now on. Call it before the request is sent."""
        self._expected = frozenset(kinds)

    def wait_for(self, *kinds: Type, timeout: float = STALL_TIMEOUT) -> Answer:
        """Wait for an expected answer and return it.

        Raises LinkError, LateAnswerError after ``timeout`` seconds, or PeerRefusedError for a refusal.
        """
        with self._moved:
            self._moved.wait_for(lambda: self._answers or self._lost, timeout)
            if not self._answers:
                self.check()
                if not self._answered:
                    raise LateAnswerError(
                        f"{self._peer} has sent nothing for {timeout:g} s: is it {_A_DESTINATION}?"
                    )
                wanted = " or ".join(kind.name for kind in kinds)
                raise LateAnswerError(f"the destination did not answer {wanted} within {timeout:g} s")
            answer = self._answers.popleft()
            self._moved.notify_all()
        if answer.type not in kinds:
            raise out_of_turn(answer.type)
        return answer

    def wait_applied(self, timeout: float) -> None:
        """Wait until more data is confirmed, nothing is in flight, or ``timeout`` seconds have passed."""
        with self._moved:
            if self._in_flight and not self._lost:
                self._moved.wait(timeout)
        self.check()

    def check(self) -> None:
        """Raises LinkError, or PeerRefusedError for a refusal, if the connection has ended."""
        if self._lost:
            raise self._lost

    def close(self) -> None:
        """Close the connection; idempotent."""
        self.abort()
        self._reader.join()  # it ends with the socket
        self._sock.close()
        self._in_flight.clear()

    def abort(self) -> None:
        """Wake all threads that block on the connection; ``close`` must follow."""
        self._closed.set()
        with self._moved:
            self._moved.notify_all()
        with contextlib.suppress(OSError):  # already disconnected
            self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        lost: QmonError
        try:
            self._read_answers()
            lost = self._ended("the destination closed the connection")
        except (OSError, MemoryError) as error:
            lost = self._ended(f"the connection to the destination was lost: {reason(error)}")
        except QmonError as error:
            lost = error.with_traceback(None)  # a traceback would keep the buffers alive
        with self._moved:
            self._lost = lost
            self._moved.notify_all()
        self.abort()

    def _read_answers(self) -> None:
        reader = AnswerReader()
        buffer = memoryview(bytearray(1 << 16))
        while count := self._sock.recv_into(buffer):
            if not self._answered:
                self._first += bytes(buffer[: min(count, FIRST_BYTES - len(self._first))])
            try:
                for answer in reader.feed(buffer[:count]):
                    self._answered = True
                    self._take(answer)
            except AnswerError as error:
                if self._answered:
                    raise
                raise LinkError(not_a_destination(self._peer, self._first)) from error

    def _ended(self, how: str) -> LinkError:
        """Return the error of a connection that has ended; name a peer that is no destination."""
        if self._answered:
            return LinkError(how)
        if self._first:
            return LinkError(not_a_destination(self._peer, self._first))
        return LinkError(f"{how} before an answer: is {self._peer} {_A_DESTINATION}?")

    def _take(self, answer: Answer) -> None:
        """Process one answer. Raises LinkError for an unexpected one, PeerRefusedError for a refusal."""
        if answer.type is Type.REFUSED:
            raise PeerRefusedError(answer.text)
        if answer.type is Type.DISMISSED:
            raise LinkError(answer.text)
        if answer.type is Type.APPLIED and not _BEFORE_DATA & self._expected:
            self._note_applied(answer.number)
            return
        if answer.type not in self._expected:
            raise out_of_turn(answer.type)
        if answer.type is Type.PREPARED and Type.BACK in self._expected:  # it was sent before BACK arrived
            self._expected = frozenset({Type.BACK})
        elif answer.type not in _SEVERAL:
            self._expected = frozenset()
        with self._moved:
            self._moved.wait_for(lambda: len(self._answers) < MAX_ANSWERS or self._closed.is_set())
            self._answers.append(answer)
            self._moved.notify_all()

    def _note_applied(self, sequence: int) -> None:
        with self._moved:
            if not self._applied_sequence < sequence <= self._sent_sequence:
                raise out_of_turn(Type.APPLIED)
            self._applied_sequence = sequence
            while self._in_flight and self._in_flight[0][0] <= sequence:
                size = self._in_flight.popleft()[1]
                self._in_flight_bytes -= size
                self._applied += size
            self._progress.rate = self._meter.add(self._applied)
            self._moved.notify_all()


def open_link(transport: Transport, progress: Progress, check: Callable[[], None]) -> Link:
    """Connect to a destination that is asked for the first time; ``check`` is called while that takes time.

    Raises LinkError, or what ``check`` raises.
    """
    address = transport.address
    try:
        sock = connect(address, CONNECT_TIMEOUT, check)
    except OSError as error:
        raise LinkError(f"Failed to connect to '{address}': {reason(error)}") from error
    return Link(sock, progress, transport.uri)

"""The source's end of the connection: sends batches at the allowed rate, and hears the answers to them.

One data thread sends; a second one reads the return path, so that an answer is heard while a send blocks. An
answer that nobody asked for ends the connection, and so does a no: whoever sends or waits is woken.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Sequence

from qmon.errors import QmonError, reason
from qmon.host.threads import start_thread
from qmon.migration.progress import Progress, RateMeter, Throttle
from qmon.migration.wire.answers import Answer, AnswerReader, Type

STALL_TIMEOUT = 30
"""Seconds after which a connection that takes nothing, or owes an answer, counts as lost."""

LIMIT_CHECK_SECONDS = 0.1
"""How often a sender that waits looks whether the limit has changed."""

MAX_ANSWERS = 16
"""Answers that may wait to be looked at; while there are so many no more is read."""

MAX_IN_FLIGHT = 1 << 16
"""Batches that may be on their way. Of those of an honest destination fewer fit into the sockets' buffers."""

_SEVERAL = frozenset({Type.ZEROS, Type.BUSY, Type.NEEDED})
"""What may come more than once when it was asked for once."""


class LinkError(QmonError):
    """The connection is of no more use; the message says why."""


class LateAnswerError(LinkError):
    """An answer did not come in time; the connection may still be good."""


class PeerRefusedError(QmonError):
    """The destination said no; the message is its reason."""


def out_of_turn(kind: Type) -> LinkError:
    """An answer came that nobody asked for."""
    return LinkError(f"the destination answered {kind.name} out of turn")


class Link:
    """A connection to a destination. ``close`` may come from any thread and wakes whoever blocks.

    To make one raises OSError where its thread can't be started; then the socket is closed.
    """

    def __init__(self, sock: socket.socket, progress: Progress) -> None:
        self._sock = sock
        # A kernel timeout keeps the socket blocking: Python's own would poll before every call.
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
        """Bytes sent and not yet said to be applied."""
        return self._in_flight_bytes

    def send(
        self, buffers: Sequence[bytes | memoryview], size: int, sequence: int, limit: Callable[[], int]
    ) -> None:
        """Send a batch of ``size`` bytes whose last record is ``sequence``, at ``limit()`` bytes a second.

        Raises LinkError, or PeerRefusedError when that is why the connection ended.
        """
        self.check()
        while delay := self._throttle.delay(limit()):
            if self._closed.wait(min(delay, LIMIT_CHECK_SECONDS)):
                self.check()
                raise LinkError("the connection was closed here")
        self._throttle.note(size)
        with self._moved:
            if not self._moved.wait_for(self._may_send, STALL_TIMEOUT):
                raise LinkError(f"the destination did not say for {STALL_TIMEOUT} s that anything is applied")
            self._in_flight.append((sequence, size))
            self._in_flight_bytes += size
            self._sent_sequence = sequence
        try:
            self._send_all(buffers, size)
        except BlockingIOError as error:
            raise LinkError(f"the destination took nothing for {STALL_TIMEOUT} s") from error
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
        """What the destination said before it closed says more than EPIPE: give it a moment to arrive."""
        self._reader.join(1.0)
        return self._lost or LinkError(f"the connection to the destination was lost: {reason(error)}")

    def expect(self, *kinds: Type) -> None:
        """One answer of these types may come from now on: call it before what asks for that is sent."""
        self._expected = frozenset(kinds)

    def wait_for(self, *kinds: Type, timeout: float = STALL_TIMEOUT) -> Answer:
        """Wait for an answer that is expected.

        Raises LinkError, LateAnswerError after ``timeout`` seconds, or PeerRefusedError for a no.
        """
        with self._moved:
            self._moved.wait_for(lambda: self._answers or self._lost, timeout)
            if not self._answers:
                self.check()
                wanted = " or ".join(kind.name for kind in kinds)
                raise LateAnswerError(f"the destination did not answer {wanted} within {timeout:g} s")
            answer = self._answers.popleft()
            self._moved.notify_all()
        if answer.type not in kinds:
            raise out_of_turn(answer.type)
        return answer

    def wait_applied(self, timeout: float) -> None:
        """Return when more is applied than now, when nothing is in flight, or after ``timeout`` seconds."""
        with self._moved:
            if self._in_flight and not self._lost:
                self._moved.wait(timeout)
        self.check()

    def check(self) -> None:
        """Raises LinkError, or PeerRefusedError for a no, when the connection has ended."""
        if self._lost:
            raise self._lost

    def close(self) -> None:
        """End the connection; idempotent."""
        self.abort()
        self._reader.join()  # it ends with the socket
        self._sock.close()
        self._in_flight.clear()

    def abort(self) -> None:
        """Wake whoever blocks on the connection; ``close`` is still to come."""
        self._closed.set()
        with self._moved:
            self._moved.notify_all()
        with contextlib.suppress(OSError):  # not connected any more, which is what is wanted
            self._sock.shutdown(socket.SHUT_RDWR)

    def _read(self) -> None:
        lost: QmonError = LinkError("the destination closed the connection")
        try:
            self._read_answers()
        except (OSError, MemoryError) as error:
            lost = LinkError(f"the connection to the destination was lost: {reason(error)}")
        except QmonError as error:
            lost = error.with_traceback(None)  # which would keep the buffers
        with self._moved:
            self._lost = lost
            self._moved.notify_all()
        self.abort()

    def _read_answers(self) -> None:
        reader = AnswerReader()
        buffer = memoryview(bytearray(1 << 16))
        while count := self._sock.recv_into(buffer):
            for answer in reader.feed(buffer[:count]):
                self._take(answer)

    def _take(self, answer: Answer) -> None:
        """Raises LinkError for an answer out of turn, PeerRefusedError for a no."""
        if answer.type is Type.REFUSED:
            raise PeerRefusedError(answer.text)
        if answer.type is Type.APPLIED and Type.AGREED not in self._expected:
            self._note_applied(answer.number)
            return
        if answer.type not in self._expected:
            raise out_of_turn(answer.type)
        if answer.type is Type.PREPARED and Type.BACK in self._expected:  # it was on its way
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

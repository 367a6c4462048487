"""The answers of a destination: a thread of their own receives them, so that they arrive while a send blocks.

An unexpected answer or a refusal ends the connection, and wakes the threads that send or wait.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.host.secure_line import SecurityLostError
from qmon.host.threads import start_thread
from qmon.migration.source.errors import LinkError, PeerRefusedError, out_of_turn
from qmon.migration.source.peer import Peer
from qmon.migration.wire.answers import Answer, AnswerError, AnswerReader, Type
from qmon.migration.wire.security import Line

MAX_ANSWERS = 16
"""The most unprocessed answers; while there are so many, no more are read."""

_BEFORE_DATA = frozenset({Type.AGREED, Type.REPORT})
"""While one of these is expected, no data has been sent that could be confirmed."""

_SEVERAL = frozenset({Type.ZEROS, Type.BUSY, Type.NEEDED, Type.SUMS})
"""Answers of which several may follow one request."""


class Inbox:
    """Holds the expected answers until somebody takes them. For any thread; ``moved`` is its lock.

    ``moved`` is notified of each change. ``note_applied`` is called on the thread that receives, with the
    last record of each confirmation.
    """

    def __init__(
        self, line: Line, peer: Peer, moved: threading.Condition, note_applied: Callable[[int], None]
    ) -> None:
        """Raises OSError without a thread."""
        self._line = line
        self._peer = peer
        self._moved = moved
        self._note_applied = note_applied
        self._expected: frozenset[Type] = frozenset()
        self._answers: deque[Answer] = deque()
        self.lost: QmonError | None = None
        """Why the connection has ended."""
        self.has_ended = False
        """Whether the other end, which need not answer, will send nothing."""
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._receive, name="migration-answers", daemon=True)
        start_thread(self._thread)

    def expect(self, *kinds: Type) -> None:
        """Allow one answer of these types from now on. Call it before the request is sent."""
        self._expected = frozenset(kinds)

    @property
    def has_answer(self) -> bool:
        return bool(self._answers)

    def pop(self) -> Answer:
        """Return the oldest answer; there must be one."""
        with self._moved:
            answer = self._answers.popleft()
            self._moved.notify_all()
        return answer

    @property
    def is_closed(self) -> bool:
        """Whether the connection was closed on this side."""
        return self._closed.is_set()

    def check(self) -> None:
        """Raises the error of a connection that has ended, also on this side."""
        if self.lost:
            raise self.lost
        if self.is_closed:
            raise LinkError("the connection was closed here")

    def close(self) -> None:
        """Shut the line down, which ends the thread, and wake all that wait."""
        self._closed.set()
        with self._moved:
            self._moved.notify_all()
        with contextlib.suppress(OSError):  # already disconnected
            self._line.shutdown(socket.SHUT_RDWR)

    def join(self, timeout: float | None = None) -> None:
        """Wait until the thread has ended: after ``close``, or after the last answer."""
        self._thread.join(timeout)

    def _receive(self) -> None:
        lost: QmonError
        try:
            if self._read_answers() or self._is_silent():
                return
            lost = self._peer.why_ended("the destination closed the connection")
        except SecurityLostError as error:
            lost = LinkError(f"the connection to the destination was lost: {error}")
        except (OSError, MemoryError) as error:
            lost = self._peer.why_ended(f"the connection to the destination was lost: {reason(error)}")
        except QmonError as error:
            lost = error.with_traceback(None)  # a traceback would keep the buffers alive
        with self._moved:
            self.lost = lost
            self._moved.notify_all()
        self.close()

    def _read_answers(self) -> bool:
        """Take answers until the end of the connection; return True before, if no answer can follow."""
        reader = AnswerReader()
        buffer = memoryview(bytearray(1 << 16))
        while count := self._line.recv_into(buffer):
            self._peer.note_received(buffer[:count])
            try:
                for answer in reader.feed(buffer[:count]):
                    self._peer.note_answer()
                    self._take(answer)
                    if answer.takes_requests:
                        return True
            except AnswerError as error:
                if (why := self._peer.why_invalid()) is None:
                    raise
                raise why from error
        return False

    def _is_silent(self) -> bool:
        """Note that the other end sends nothing; return whether that may be so."""
        with self._moved:
            self.has_ended = self._peer.may_be_silent
            self._moved.notify_all()
        return self.has_ended

    def _take(self, answer: Answer) -> None:
        """Process one answer. Raises LinkError for an unexpected one, PeerRefusedError for a refusal."""
        if self._peer.is_one_way:
            raise LinkError(
                f"{self._peer.name} has answered, too late: turn the capability return-path on, and the"
                " migration waits for answers"
            )
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
            self._moved.wait_for(lambda: len(self._answers) < MAX_ANSWERS or self.is_closed)
            self._answers.append(answer)
            self._moved.notify_all()

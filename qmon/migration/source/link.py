"""The source's end of the connection: sends batches, and waits for answers and confirmations.

One thread sends; another one receives (``source/inbox.py``). While it waits, the thread that sends does
what other threads have queued (``source/work_queue.py``).
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence

from qmon.errors import QmonError
from qmon.migration.progress import Progress, RateMeter
from qmon.migration.source.errors import LinkError, out_of_turn
from qmon.migration.source.in_flight import InFlight
from qmon.migration.source.inbox import Inbox
from qmon.migration.source.peer import Peer
from qmon.migration.source.work_queue import WorkQueue
from qmon.migration.wire.answers import Answer, Type
from qmon.migration.wire.offer import Answers
from qmon.migration.wire.security import Line, limit_sending
from qmon.migration.wire.writer import RecordWriter

STALL_TIMEOUT = 30
"""Seconds after which a connection that accepts no data or owes an answer counts as lost."""

LOOK_SECONDS = 0.1
"""How often to look whether a command can answer at all."""


class Link:
    """A connection to a destination. Any thread may call ``abort``, which wakes blocked threads.

    ``address`` is the destination's as written; ``is_known``: it has answered on an earlier connection.
    ``work`` is done while the sending thread waits, and may send on this link. The constructor raises
    OSError if the thread that receives can't be started; then the line is closed.
    """

    def __init__(
        self,
        line: Line,
        progress: Progress,
        address: str,
        work: WorkQueue,
        *,
        is_known: bool = False,
        answers: Answers = Answers.HEARD,
    ) -> None:
        self._line = line
        self._peer = Peer(line, address, answers, is_known=is_known)
        self._progress = progress
        self._work = work
        self._moved = work.moved
        self._meter = RateMeter()
        self.measures = True
        """Whether the rate of the migration is that of this connection."""
        self._in_flight = InFlight()
        self._is_handed_over = False
        self.on_applied: Callable[[int], None] = lambda sequence: None
        """Called by the thread that receives, with the last record that is confirmed as applied."""
        # The send buffer's size is left to the kernel. Over loopback, with a processor for each side, 2 and
        # 4 MiB took the same time and 64 KiB 1.9 times as long; on a crowded machine 64 KiB took a third.
        # No fixed size fits both a short and a long line.
        limit_sending(line, STALL_TIMEOUT)
        try:
            self._inbox = Inbox(line, self._peer, self._moved, self._note_applied)
        except BaseException:
            line.close()
            raise

    # What is sent.

    @property
    def in_flight(self) -> int:
        """Bytes that are sent and not yet confirmed as applied."""
        return self._in_flight.size

    @property
    def applied_sequence(self) -> int:
        """The last record that is confirmed as applied, -1 before the first."""
        return self._in_flight.applied_sequence

    def send(self, writer: RecordWriter) -> None:
        """Send a writer's records as one batch, and empty it.

        Raises LinkError, or PeerRefusedError if the destination has refused.
        """
        size = writer.size
        self.check()
        if self._in_flight.is_full:
            self._wait_for_room()
        self._in_flight.add(writer.next_sequence - 1, size)
        try:
            sent = self._line.sendmsg(writer.buffers)
            if sent < size:
                self._send_rest(writer.buffers, sent)
        except BlockingIOError as error:
            raise LinkError(f"{self._peer.name} has accepted no data for {STALL_TIMEOUT} s") from error
        except OSError as error:
            raise self._why_lost(error) from error
        self._progress.transferred += size
        if self._peer.is_one_way:
            self._in_flight.confirm_all()
            self._measure()
        writer.clear()

    def _send_rest(self, buffers: Sequence[bytes | memoryview], sent: int) -> None:
        left = deque(memoryview(piece) for piece in buffers)
        while True:
            while left and sent >= len(left[0]):
                sent -= len(left.popleft())
            if not left:
                return
            left[0] = left[0][sent:]
            sent = self._line.sendmsg(left)

    def _wait_for_room(self) -> None:
        if not self._happens(lambda: not self._in_flight.is_full, STALL_TIMEOUT):
            self.check()
            raise LinkError(f"the destination has confirmed no data for {STALL_TIMEOUT} s")

    def _why_lost(self, error: OSError) -> QmonError:
        """Return the reason of a failed send. Wait a moment for the destination's own, better than EPIPE."""
        if not self.is_one_way:
            self._inbox.join(1.0)
        return self._inbox.lost or self._peer.why_unsent(error)

    def _measure(self) -> None:
        if self.measures:
            self._progress.rate = self._meter.add(self._in_flight.applied)

    def _note_applied(self, sequence: int) -> None:
        """The destination has confirmed a record. On the thread that receives."""
        with self._moved:
            if not self._in_flight.confirm(sequence):
                raise out_of_turn(Type.APPLIED)
            self._measure()
            self._moved.notify_all()
        self.on_applied(sequence)

    def complete(self) -> None:
        """End a stream that nobody answers: everything is written, and the command has ended well.

        Raises LinkError.
        """
        try:
            self._peer.complete()
        except OSError as error:
            raise self._why_lost(error) from error

    # What the other end is.

    @property
    def answers(self) -> Answers:
        """What is known about the answers at the moment."""
        return self._peer.answers

    @property
    def is_one_way(self) -> bool:
        """Whether nobody answers, as far as is known."""
        return self._peer.is_one_way

    @property
    def is_stored(self) -> bool:
        """Whether the stream goes to a regular file, so that nobody obeys it now."""
        return self._peer.is_stored

    def hears(self, seconds: float) -> bool:
        """Find out whether the other end answers: wait for the beginning of its first answer, or for its end.

        Without any within ``seconds`` it does not answer. Raises LinkError, PeerRefusedError.
        """
        inbox, peer = self._inbox, self._peer
        if peer.answers is Answers.ASKED:
            deadline = time.monotonic() + seconds
            while not self._happens(
                lambda: inbox.has_answer or inbox.has_ended, min(LOOK_SECONDS, deadline - time.monotonic())
            ):
                if inbox.lost or time.monotonic() >= deadline or not peer.may_answer:
                    break
            with self._moved:
                if inbox.lost is None:
                    peer.answers = Answers.HEARD if inbox.has_answer else Answers.UNHEARD
            self.check()
        return not peer.is_one_way

    def need_answers(self, seconds: float) -> None:
        """As ``hears``. Raises LinkError also if the other end does not answer."""
        if not self.hears(seconds):
            raise self._peer.why_unheard()

    # What is waited for.

    def expect(self, *kinds: Type) -> None:
        """Allow one answer of these types from now on. Call it before the request is sent."""
        self._inbox.expect(*kinds)

    def wait_for(self, *kinds: Type, timeout: float = STALL_TIMEOUT) -> Answer:
        """Wait for an expected answer and return it.

        Raises LinkError, LateAnswerError after ``timeout`` seconds, or PeerRefusedError for a refusal.
        """
        until = time.monotonic() + timeout
        while not self._await(lambda: self._inbox.has_answer, until - time.monotonic()):
            self.check()
            if time.monotonic() >= until:
                raise self._peer.why_late(kinds, timeout)
        answer = self._inbox.pop()
        if answer.type not in kinds:
            raise out_of_turn(answer.type)
        return answer

    def wait_applied(self, timeout: float) -> None:
        """Wait until more data is confirmed, nothing is in flight, or ``timeout`` seconds have passed."""
        applied = self._in_flight.applied
        self._await(lambda: self._in_flight.applied != applied or not self.in_flight, timeout)
        self.check()

    def pause(self, seconds: float) -> None:
        """Wait for some seconds, or until queued work was done. Raises LinkError if it was closed."""
        self._await(lambda: self._inbox.is_closed, seconds)
        self._inbox.check()

    def _await(self, happened: Callable[[], bool], timeout: float) -> bool:
        """As ``_happens``, but return also when queued work was done."""
        has_happened = self._happens(happened, timeout, or_work=True)
        if not has_happened and self._work.is_due and self._inbox.lost is None:
            self._work.run()
        return has_happened

    def _happens(self, happened: Callable[[], bool], timeout: float, *, or_work: bool = False) -> bool:
        """Wait until something has ``happened``, the connection has ended, or a timeout.

        Return whether it has happened.
        """
        inbox, work = self._inbox, self._work
        with self._moved:
            self._moved.wait_for(
                lambda: happened() or inbox.lost or (or_work and work.is_due), max(0.0, timeout)
            )
            return happened()

    def check(self) -> None:
        """Raises LinkError, or PeerRefusedError for a refusal, if the connection has ended."""
        if self._inbox.lost:
            raise self._inbox.lost

    # The end.

    def hand_over(self) -> Line:
        """Return the line, which this object does not use or close any more.

        Only after a RUNNING whose sender takes requests: no answer follows it. Raises LinkError if the line
        is closed.
        """
        self._inbox.join()
        self._inbox.check()
        self._is_handed_over = True
        return self._line

    def abort(self) -> None:
        """Wake all threads that block on the connection; ``close`` must follow."""
        if not self._is_handed_over:
            self._inbox.close()

    def close(self) -> None:
        """Close the connection; idempotent."""
        if not self._is_handed_over:
            self._inbox.close()
            self._inbox.join()
            self._line.close()

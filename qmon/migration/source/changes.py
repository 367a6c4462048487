"""Brings guests' changes to the destination: gives them to the migration's thread, and hears of arrivals."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future

from qmon.block.mirror import Change
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.link import Link
from qmon.migration.source.sender import Sender


class SentChanges:
    """Changes on their way: a Delivery of ``qmon.block.mirror``."""

    def __init__(self) -> None:
        self.told = threading.Event()
        self.has_arrived = self._has_failed = False
        self._work: Future[None] | None = None

    def follow(self, work: Future[None]) -> None:
        """``work`` puts the changes into the stream; it fails, or is cancelled, if they can't be sent."""
        self._work = work
        work.add_done_callback(self._look)

    def _look(self, work: Future[None]) -> None:
        if work.cancelled() or work.exception() is not None:
            self.fail()

    def fail(self) -> None:
        """Note that no word of the arrival will come."""
        self._has_failed = True
        self.told.set()

    def arrive(self) -> None:
        """Note that the destination has applied the changes."""
        self.has_arrived = True
        self.told.set()

    @property
    def is_over(self) -> bool:
        return self.has_arrived or self._has_failed

    def withdraw(self) -> bool:
        work = self._work
        if work is None or work.cancel():
            return True
        return work.done() and work.exception() is not None


class ChangeSender:
    """One migration's. Any thread may call it."""

    def __init__(self, sender: Sender) -> None:
        self._sender = sender
        self._lock = threading.Lock()
        self._is_open = False
        self._on_way: deque[tuple[int, SentChanges]] = deque()
        """What is in the stream and not confirmed, with the sequence number of its last record."""
        self._applied = -1

    def open(self, link: Link) -> None:
        """Use this connection from now on."""
        with self._lock:
            self._applied = -1
            self._is_open = True
        link.on_applied = self._note_applied

    def close(self) -> None:
        """Send nothing any more. Nobody waits for what is on its way."""
        with self._lock:
            self._is_open = False
            left, self._on_way = self._on_way, deque()
        for _, sent in left:
            sent.fail()

    def send(self, copy: DriveCopy, changes: Sequence[Change]) -> SentChanges:
        """Hand over changes of a drive; without any they arrive when all before them has."""
        sent = SentChanges()
        if self._is_open:
            sent.follow(self._sender.submit(lambda: self._put(copy, changes, sent)))
        else:
            sent.fail()
        return sent

    def _put(self, copy: DriveCopy, changes: Sequence[Change], sent: SentChanges) -> None:
        """Put changes into the stream. The migration's thread calls this."""
        outlet = self._sender
        waits = not changes
        for change in changes:
            if not copy.may_send_apart(change.offset, change.length):
                copy.dirty.mark(change.offset, change.length)
                continue
            waits = True
            if change.data is None:
                copy.send_zeros(change.offset, change.length, outlet)
            else:
                copy.send_change(change.offset, memoryview(change.data), outlet)
        if waits:
            outlet.writer.confirm()
        with self._lock:
            last = outlet.writer.next_sequence - 1
            if waits and self._is_open:
                self._on_way.append((last, sent))
                return
        sent.arrive()

    def _note_applied(self, sequence: int) -> None:
        """Tell those who wait for records up to ``sequence``. The link's reader calls this."""
        arrived = []
        with self._lock:
            self._applied = sequence
            while self._on_way and self._on_way[0][0] <= sequence:
                arrived.append(self._on_way.popleft()[1])
        for sent in arrived:
            sent.arrive()

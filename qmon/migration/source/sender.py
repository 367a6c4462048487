"""Sends records at the limited rate, with signs of life, and does other threads' work in between."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from qmon.migration.parameters import Parameters
from qmon.migration.progress import Progress, Throttle
from qmon.migration.source.channels import Channels
from qmon.migration.source.link import Link
from qmon.migration.source.opening import Route, open_link
from qmon.migration.source.unconfirmed import Unconfirmed
from qmon.migration.source.work_queue import WorkQueue
from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import MAX_PAYLOAD, section_end, section_footer, section_part
from qmon.migration.wire.writer import RecordWriter

_T = TypeVar("_T")

PROGRESS_INTERVAL = 0.2
NOTE_SECONDS = 0.02
"""How often the figures are noted within a part: their sum takes a time for each drive."""

SLICE_SECONDS = 0.05
MIN_SLICE = 4 << 10
"""A slice is a multiple of this. At 1 KiB per second the destination gets data every four seconds."""

MAX_GRANT = 16 << 20
"""The most bytes that are sent without a look at the limit, the figures and a cancel."""

GRANT_SECONDS = 0.01
"""A grant of more than MAX_PAYLOAD takes no longer at the limit, so that the line is used evenly."""

LIMIT_CHECK_SECONDS = 0.1
"""How often a waiting sender checks whether the bandwidth limit has changed."""


class Sender:
    """An Outlet (``source/copy.py``) over a link. For the migration's thread; any thread may call ``submit``.

    ``check`` raises the error that ends the migration. ``unsent`` returns the bytes that are still marked.
    ``is_limited`` says whether the bandwidth limit applies: while the machine is paused it does not.
    ``observe`` is called before each grant.
    """

    def __init__(
        self,
        parameters: Parameters,
        progress: Progress,
        *,
        check: Callable[[], None],
        unsent: Callable[[], int],
        is_limited: Callable[[], bool],
        observe: Callable[[], None],
        sign_seconds: float,
    ) -> None:
        self.writer = RecordWriter()
        self.unconfirmed = Unconfirmed()
        self.work = WorkQueue()
        self.link: Link | None = None
        self.channels: Channels | None = None
        """Where data and zeros go instead (multifd)."""
        self._throttle = Throttle()
        self._parameters = parameters
        self._progress = progress
        self._check = check
        self._unsent = unsent
        self._is_limited = is_limited
        self._observe = observe
        self._sign_seconds = sign_seconds
        self._is_open = False
        """Whether a part of the section is open, so that records may follow."""
        self._told = self._noted = 0.0
        """When the progress was last sent to the destination, and when the figures were noted."""

    def begin(self, *, notes: bool) -> None:
        """Begin a new stream; with ``notes`` note its records until they are confirmed.

        The regions' checksums go on.
        """
        self.unconfirmed = Unconfirmed(lambda: -1 if self.link is None else self.link.applied_sequence)
        self.writer = RecordWriter(self.writer.chains, self.unconfirmed if notes else None)
        self._is_open = self.work.may_run = False
        self.link = None

    def connect(self, route: Route, check: Callable[[], None], *, is_known: bool = False) -> Link:
        """Connect to a destination, as ``open_link``; the stream goes there."""
        self.link = open_link(route, self._progress, self.work, check, is_known=is_known)
        check()  # a cancel meanwhile had no connection to end
        return self.link

    def abort(self) -> None:
        """Wake the migration's thread from what it sends or waits for. Any thread may call this."""
        if (link := self.link) is not None:
            link.abort()

    @property
    def in_flight(self) -> int:
        """Bytes that are sent and not yet confirmed as applied."""
        waiting = 0 if self.channels is None else self.channels.in_flight
        return waiting + (0 if self.link is None else self.link.in_flight)

    def use(self, channels: Channels) -> None:
        """Send data and zeros through channels from now on."""
        assert self.link is not None
        self.channels = self.writer.elsewhere = channels
        self.link.measures = False

    def close(self) -> None:
        """Close all connections, and cancel the work of other threads."""
        self.work.end()
        if self.channels is not None and self.link is not None:
            self.link.abort()  # first, so that the destination does not take the channels' end for a loss
        self.end_channels()
        if self.link is not None:
            self.link.close()

    def end_channels(self) -> None:
        """Close the channels: all data is confirmed, or the migration has ended."""
        if self.channels is not None:
            self.channels.count(self._progress)
            self.channels.close()
            self.channels = self.writer.elsewhere = None

    def settle(self) -> None:
        """Wait until what went through channels is confirmed: call it before FLUSH and FINISH.

        Raises the error that ends the migration.
        """
        if self.channels is not None:
            self.channels.settle()

    def wait_applied(self, seconds: float) -> None:
        """Wait until more data is confirmed, for some seconds. Raises the error that ends the migration."""
        assert self.link is not None
        if self.channels is not None:
            self.channels.wait_applied()
        else:
            self.link.wait_applied(seconds)

    def wait_in_channel(self) -> None:
        """Show life, in an open part or not, while the migration's thread waits for a channel."""
        if self._is_open:
            self.pulse()
        else:
            self.show_life()

    @property
    def is_confirmed(self) -> bool:
        """Whether all that is sent is confirmed on the one connection: not one-way, and without channels."""
        return self.channels is None and self.link is not None and not self.link.is_one_way

    def submit(self, work: Callable[[], _T]) -> Future[_T]:
        """Let the migration's thread do something between two batches; any thread may call this.

        ``work`` may add records to ``writer``; they are sent at once. It waits while none may be sent: before
        the agreement and after FINISH. The future has its result, and is cancelled when the migration ends.
        """
        return self.work.submit(lambda: self._do(work))

    def slice_size(self) -> int:
        """Bytes to send at once at the limit: few at a low bandwidth, so that neither side waits long."""
        limit = self._limit()
        if not limit:
            return MAX_PAYLOAD
        return min(MAX_PAYLOAD, max(1, int(limit * SLICE_SECONDS) // MIN_SLICE) * MIN_SLICE)

    @property
    def is_wanted(self) -> bool:
        """Whether another thread's work waits and may be done."""
        return self.work.is_due

    def allowance(self) -> int:
        """Wait until more may be sent; return how many bytes, before the next call. Does queued work.

        Raises the error that ends the migration.
        """
        self._wait_for_limit()
        if self.work.is_due:
            self.work.run()
        now = time.monotonic()
        if now - self._told > PROGRESS_INTERVAL:
            self._tell_progress()
            self.push()  # what is read next may need no sending for long
        if now - self._noted > NOTE_SECONDS:
            self._note()
        limit = self._limit()
        if not limit:
            return MAX_GRANT
        most = min(MAX_GRANT, int(limit * GRANT_SECONDS))
        return max(self.slice_size(), most // MAX_PAYLOAD * MAX_PAYLOAD)

    def send(self) -> None:
        """Send the writer's records at once, and empty it. Raises the error that ends the migration."""
        link, writer = self.link, self.writer
        assert link is not None
        if writer.buffers:
            self._throttle.note(writer.size)
            link.send(writer)

    def pulse(self) -> None:
        """Send a sign of life now and then, within a part that may have nothing to send for long."""
        self._check()
        if time.monotonic() - self._told > PROGRESS_INTERVAL:
            self._tell_progress()
            self.push()

    def push(self) -> None:
        """Send the writer's records when the limit allows it. Does no queued work.

        Raises the error that ends the migration.
        """
        may_run, self.work.may_run = self.work.may_run, False
        try:
            self.flush()
        finally:
            self.work.may_run = may_run

    def flush(self) -> None:
        """Do ``push``, and queued work meanwhile."""
        self._wait_for_limit()
        self._note()
        self.send()

    def expect(self, *kinds: Type) -> None:
        """Allow one answer of these types to what is sent next."""
        assert self.link is not None
        self.link.expect(*kinds)

    def begin_part(self) -> None:
        """Open a part of the section; records may follow."""
        self.writer.raw(section_part())
        self._is_open = self.work.may_run = True

    def begin_last_part(self) -> None:
        """Open the last part, for FINISH: no queued work is done from now on."""
        self.writer.raw(section_end())
        self.work.may_run = False

    def end_part(self) -> None:
        """Close the open part and send it."""
        self._is_open = False
        self.writer.end()
        self.writer.raw(section_footer())
        self.flush()

    def begin_survey(self) -> None:
        """Note that there may be nothing to send for a long time."""
        self._told = time.monotonic()

    def end_survey(self) -> None:
        """Note that there is data to send again."""
        self._told = 0.0

    def show_life(self) -> None:
        """While nothing is sent: do queued work, and show the destination that this side is alive.

        Raises the error that ends the migration, also if the destination has refused meanwhile.
        """
        self._check()
        if self.link is not None:
            self.link.check()
        if self.work.is_due:
            self.work.run()
        if time.monotonic() - self._told > self._sign_seconds:
            self.begin_part()
            self._tell_progress()
            self.end_part()

    def _do(self, work: Callable[[], _T]) -> _T:
        """Do another thread's work, in the open part or one of its own."""
        if self._is_open:
            done = work()
            self.send()
            return done
        self.begin_part()
        done = work()
        self._is_open = False
        self.writer.end()
        self.writer.raw(section_footer())
        self.send()
        return done

    def _wait_for_limit(self) -> None:
        """Wait until the limit allows to send. Queued work waits, too: it would leave nothing."""
        self._check()
        if self.channels is not None:
            self.channels.check()
            self._throttle.note(self.channels.count(self._progress))
        may_run, self.work.may_run = self.work.may_run, False
        try:
            while delay := self._throttle.delay(self._limit()):
                assert self.link is not None
                self.link.pause(min(delay, LIMIT_CHECK_SECONDS))
                self._check()
        finally:
            self.work.may_run = may_run

    def _note(self) -> None:
        self._noted = time.monotonic()
        left = self._unsent() + self.writer.size + self.in_flight
        self._progress.remaining = min(left, self._progress.total)
        self._observe()

    def _tell_progress(self) -> None:
        self._told = time.monotonic()
        self.writer.progress(self._progress.remaining)

    def _limit(self) -> int:
        """Return the limit in bytes per second, 0 for no limit."""
        return self._parameters.max_bandwidth if self._is_limited() else 0

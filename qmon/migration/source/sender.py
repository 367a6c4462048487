"""The source's sender: collects records into parts, sends them at the limited rate, sends signs of life."""

from __future__ import annotations

import time
from collections.abc import Callable

from qmon.migration.parameters import Parameters
from qmon.migration.progress import Progress
from qmon.migration.source.link import Link
from qmon.migration.wire.answers import Type
from qmon.migration.wire.stream import section_footer, section_part
from qmon.migration.wire.writer import BATCH_SIZE, RecordWriter

PROGRESS_INTERVAL = 0.2
SLICE_SECONDS = 0.05
MIN_SLICE = 4 << 10
"""A slice is a multiple of this. At 1 KiB per second the destination gets data every four seconds."""


class Sender:
    """An Outlet (``source/copy.py``) over a link. For the migration's thread; any thread may read ``link``.

    ``check`` raises the error that ends the migration. ``unsent`` returns the bytes that are still marked.
    ``is_limited`` says whether the bandwidth limit applies: while the machine is paused it does not.
    ``observe`` is called before each batch.
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
        self.link: Link | None = None
        self._parameters = parameters
        self._progress = progress
        self._check = check
        self._unsent = unsent
        self._is_limited = is_limited
        self._observe = observe
        self._sign_seconds = sign_seconds
        self._told = 0.0
        """When the progress was last sent to the destination."""

    @property
    def in_flight(self) -> int:
        """Bytes that are sent and not yet confirmed as applied."""
        return 0 if self.link is None else self.link.in_flight

    def slice_size(self) -> int:
        """Bytes to collect before they are sent: few at a low bandwidth, so that neither side waits long."""
        limit = self._limit()
        if not limit:
            return BATCH_SIZE
        return min(BATCH_SIZE, max(1, int(limit * SLICE_SECONDS) // MIN_SLICE) * MIN_SLICE)

    def send(self) -> None:
        """Send the collected records of the open part, and now and then the progress."""
        self.flush()
        if time.monotonic() - self._told > PROGRESS_INTERVAL:
            self._tell_progress()

    def pulse(self) -> None:
        """Do ``send`` now and then, within a part that may have nothing to send for long."""
        self._check()
        if time.monotonic() - self._told > PROGRESS_INTERVAL:
            self._tell_progress()
            self.flush()

    def flush(self) -> None:
        """Send the collected records. Raises the error that ends the migration."""
        self._check()
        link, writer = self.link, self.writer
        assert link is not None
        if not writer.buffers:
            return
        self._progress.remaining = min(self._unsent() + writer.size + link.in_flight, self._progress.total)
        self._observe()
        link.send(writer.buffers, writer.size, writer.next_sequence - 1, self._limit)
        writer.clear()

    def expect(self, *kinds: Type) -> None:
        """Allow one answer of these types to what is sent next."""
        assert self.link is not None
        self.link.expect(*kinds)

    def end_part(self) -> None:
        """Close the open part and send it."""
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
        """While nothing is sent: show the destination now and then that this side is alive.

        Raises the error that ends the migration, also if the destination has refused meanwhile.
        """
        self._check()
        if self.link is not None:
            self.link.check()
        if time.monotonic() - self._told > self._sign_seconds:
            self.writer.raw(section_part())
            self._tell_progress()
            self.end_part()

    def _tell_progress(self) -> None:
        self._told = time.monotonic()
        self.writer.progress(self._progress.remaining)

    def _limit(self) -> int:
        """Return the limit in bytes per second, 0 for no limit."""
        return self._parameters.max_bandwidth if self._is_limited() else 0

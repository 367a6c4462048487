"""The source's way out: records gathered into parts, sent at the limited rate, with signs of life between."""

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
"""A slice is a multiple of it. So at 1 KiB a second the destination hears something every four seconds."""

SIGN_SECONDS = 5.0
"""How often a source that sends nothing shows the destination that it is there."""


class Sender:
    """An Outlet (``source/copy.py``) over a link, for the migration's thread; any may read ``link``.

    ``check`` raises what ends the migration; ``unsent`` tells the bytes that are still marked; ``is_limited``
    whether the bandwidth's limit holds: while the machine stands still nothing holds the sender back.
    """

    def __init__(
        self,
        parameters: Parameters,
        progress: Progress,
        *,
        check: Callable[[], None],
        unsent: Callable[[], int],
        is_limited: Callable[[], bool],
    ) -> None:
        self.writer = RecordWriter()
        self.link: Link | None = None
        self._parameters = parameters
        self._progress = progress
        self._check = check
        self._unsent = unsent
        self._is_limited = is_limited
        self._told = 0.0
        """When the destination was last told how far this is."""

    def slice_size(self) -> int:
        """Little at a low bandwidth, so that neither side waits long."""
        limit = self._limit()
        if not limit:
            return BATCH_SIZE
        return min(BATCH_SIZE, max(1, int(limit * SLICE_SECONDS) // MIN_SLICE) * MIN_SLICE)

    def send(self) -> None:
        """Send what was gathered within a part, and now and then how far this is."""
        self.flush()
        if time.monotonic() - self._told > PROGRESS_INTERVAL:
            self._tell_progress()

    def pulse(self) -> None:
        """Within a part in which there may be nothing to send for long: as ``send``, now and then."""
        self._check()
        if time.monotonic() - self._told > PROGRESS_INTERVAL:
            self._tell_progress()
            self.flush()

    def flush(self) -> None:
        """Send what was gathered. Raises what ends the migration."""
        self._check()
        link, writer = self.link, self.writer
        assert link is not None
        if not writer.buffers:
            return
        self._progress.remaining = min(self._unsent() + writer.size + link.in_flight, self._progress.total)
        link.send(writer.buffers, writer.size, writer.next_sequence - 1, self._limit)
        writer.clear()

    def expect(self, *kinds: Type) -> None:
        """One answer of these types is to come upon what is sent next."""
        assert self.link is not None
        self.link.expect(*kinds)

    def end_part(self) -> None:
        """Close the part that was begun, and send it."""
        self.writer.end()
        self.writer.raw(section_footer())
        self.flush()

    def begin_survey(self) -> None:
        """From now on there may be nothing to send for long."""
        self._told = time.monotonic()

    def end_survey(self) -> None:
        """Now there is something to tell."""
        self._told = 0.0

    def show_life(self) -> None:
        """While nothing is sent: let the destination see now and then that this side is there.

        Raises what ends the migration, which the destination may have said meanwhile.
        """
        self._check()
        if self.link is not None:
            self.link.check()
        if time.monotonic() - self._told > SIGN_SECONDS:
            self.writer.raw(section_part())
            self._tell_progress()
            self.end_part()

    def _tell_progress(self) -> None:
        self._told = time.monotonic()
        self.writer.progress(self._progress.remaining)

    def _limit(self) -> int:
        """Bytes a second, 0 for no limit."""
        return self._parameters.max_bandwidth if self._is_limited() else 0

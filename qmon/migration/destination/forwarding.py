"""The one connection by which a source forwards requests of its clients afterwards."""

from __future__ import annotations

import logging
from collections.abc import Callable
from uuid import UUID

from qmon.migration.destination.course import Course
from qmon.migration.destination.forwarded import Forwarded
from qmon.migration.wire.security import Line
from qmon.migration.wire.stream import StreamError

log = logging.getLogger("qmon.migration")


class Forwarding:
    """For all threads. ``on_change`` is called when the number of clients has changed.

    Without data for ``silence`` seconds the source counts as lost.
    """

    def __init__(self, course: Course, silence: float, on_change: Callable[[], None]) -> None:
        self._course = course
        self._silence = silence
        self._on_change = on_change
        self.current: Forwarded | None = None

    def begin(self, migration_id: UUID, line: Line, peer: str, begun: bytes) -> Forwarded:
        """Take forwarded requests from a connection. Raises StreamError if that was not agreed on.

        ``begun`` are bytes that were received before.
        """
        with self._course.lock:
            transfer, earlier = self._course.transfer, self.current
            if transfer is None or transfer.id != migration_id or not transfer.forwards:
                raise StreamError("the source forwards requests, which was not agreed on")
            made = Forwarded(line, transfer.drives, peer, begun, self._silence, self._on_change)
            self.current = made
        if earlier is not None:
            earlier.stop()
        log.info("incoming migration %s: the source at %s forwards its clients' requests", migration_id, peer)
        return made

    def end(self, forwarded: Forwarded, why: str) -> None:
        """The connection with forwarded requests has ended."""
        log.info(
            "forwarded requests from %s have ended after %d: %s", forwarded.peer, forwarded.requests, why
        )
        with self._course.lock:
            if self.current is forwarded:
                self.current = None
        self._on_change()

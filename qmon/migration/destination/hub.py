"""Where the channels of one migration join (the capability multifd)."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Protocol

from qmon.migration.progress import Progress
from qmon.migration.wire.offer import Offer
from qmon.migration.wire.stream import Record, StreamError


class Abortable(Protocol):
    """A connection, as those know it that may end it."""

    def abort(self) -> None:
        """Make it end at once. For any thread."""


class Hub:
    """What the channels of one migration share: they write into its drives, each on a thread of its own.

    ``apply`` applies a DATA or ZERO record; it raises StreamError if that is not allowed. ``end`` ends the
    migration's own connection.
    """

    def __init__(
        self, offer: Offer, progress: Progress, apply: Callable[[Record], None], end: Callable[[], None]
    ) -> None:
        self.packing = offer.packing
        self.progress = progress
        self.apply = apply
        self._count = offer.channels
        self._end = end
        self._lock = threading.Lock()
        self._members: dict[int, Abortable] = {}
        self._is_over = False
        self.failure: str | None = None
        """Why a channel has failed."""

    def join(self, number: int, connection: Abortable) -> None:
        """Take a channel in. Raises StreamError."""
        with self._lock:
            if self._is_over or number >= self._count or number in self._members:
                raise StreamError(f"not a valid migration stream: a channel {number} was not agreed on")
            self._members[number] = connection

    def lose(self, why: str) -> None:
        """A channel has ended."""
        with self._lock:
            if self._is_over:
                return
            self.failure = self.failure or why
        self._end()

    def close(self) -> None:
        """End all channels: the migration has ended."""
        with self._lock:
            self._is_over = True
            members = list(self._members.values())
        for each in members:
            each.abort()

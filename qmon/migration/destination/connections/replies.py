"""What one connection's source is told."""

from __future__ import annotations

import contextlib
import time

from qmon.migration.patience import Patience
from qmon.migration.progress import Progress, RateMeter
from qmon.migration.wire import answers
from qmon.migration.wire.security import Line, limit_sending

TELL_APPLIED_AFTER = 4 << 20
"""Bytes after which the source is told what is applied, if the stream has no pause before."""

TELL_APPLIED_RECORDS = 4 << 10
"""The same for the number of records: those of zeros have no bytes."""


class Replies:
    """Sends on one connection. For its thread."""

    def __init__(self, line: Line, patience: Patience) -> None:
        self.line = line
        self.may_send = True
        """False while there is no TLS that an answer could be sent under."""
        self.are_read = True
        """False if it is certain that nobody reads them: then nothing is sent."""
        self._patience = patience
        self._shown = time.monotonic()

    def send(self, message: bytes) -> None:
        """Send a message to the source. Raises OSError."""
        if self.are_read:
            self.line.sendall(message)

    def try_send(self, message: bytes) -> None:
        """Send a message, unless the source has disconnected."""
        if self.may_send:
            with contextlib.suppress(OSError):
                self.send(message)

    def show_life(self) -> None:
        """While a long check is made: tell the source now and then that this side is alive."""
        now = time.monotonic()
        if now - self._shown > self._patience.sign:
            self._shown = now
            self.send(answers.encode(answers.Type.BUSY))

    def limit(self) -> None:
        """From now on a source that does not read must not block this thread for ever."""
        limit_sending(self.line, self._patience.silence)


class Applied:
    """Which records of one connection are applied, and what of that the source knows.

    It is not told for each batch, because an answer costs time on both sides.
    """

    def __init__(self, replies: Replies, progress: Progress) -> None:
        self.last = -1
        """The sequence number of the last record that is applied, -1 before the first."""
        self._told = -1
        self._told_at = progress.transferred
        self._replies = replies
        self._progress = progress
        self._meter = RateMeter()

    def tell(self) -> None:
        """Tell the source, and measure the rate. Raises OSError."""
        self._progress.rate = self._meter.add(self._progress.transferred)
        if self.last > self._told:
            self._told, self._told_at = self.last, self._progress.transferred
            self._replies.send(answers.applied(self.last))

    def tell_if_due(self) -> None:
        """Tell the source if much has been applied since."""
        is_much = self._progress.transferred - self._told_at >= TELL_APPLIED_AFTER
        if is_much or self.last - self._told >= TELL_APPLIED_RECORDS:
            self.tell()

"""The destination's part in a trial: it reports what a migration would meet, and throws probes away.

Nothing is locked, recorded or written, and a migration that is offered meanwhile ends the trial.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from qmon.errors import QmonError
from qmon.migration.compare import answer_question
from qmon.migration.destination.acceptance import Machine, inspection, reading
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Mode, Offer
from qmon.migration.wire.stream import Kind, Record, StreamError

log = logging.getLogger("qmon.migration")

CHECK_SECONDS = 60
"""How long contents are compared. A trial that takes longer says so."""

LINE_SECONDS = 60
"""How long the source may measure the line, or compare shared disks, after the report."""


class Trial:
    """One trial, for its connection's thread; any thread may call ``stop``.

    ``answer`` sends a message to the source, ``show_life`` a sign of life if none was sent for some time.
    """

    def __init__(
        self,
        incoming: Machine,
        offer: Offer,
        answer: Callable[[bytes], None],
        show_life: Callable[[], None],
    ) -> None:
        self._incoming = incoming
        self._offer = offer
        self._answer = answer
        self._show_life = show_life
        self._stopped: str | None = None

    def stop(self, why: str) -> None:
        """Make the trial end soon; ``why`` is told to its source."""
        self._stopped = why

    def report(self, peer: str) -> None:
        """Check the offer and answer. Raises OSError, QmonError if it was stopped."""
        found = inspection(self._incoming, self._offer, self._check, CHECK_SECONDS).look(contents=True)
        count = len(found.mismatches)
        result = (
            f"it would be refused for {count} reason{'s'[: count > 1]}" if count else "it would be accepted"
        )
        log.info("incoming migration: a trial from %s: %s", peer, result)
        self._answer(answers.encode(answers.Type.REPORT, found.encode()))

    def take(self, record: Record) -> None:
        """Take a record after the report. Raises StreamError if it has no place in a trial, QmonError."""
        self._check()
        match record.kind:
            case Kind.PROBE | Kind.PROGRESS | Kind.END:
                pass
            case Kind.COMPARE:
                self._compare(record)
            case Kind.WITHDRAW:
                raise QmonError(record.text)
            case _:
                raise StreamError(f"not a valid migration stream: {record.kind.name} came in a trial")

    def _compare(self, record: Record) -> None:
        """Answer whether a shared drive is the source's disk. Raises StreamError, QmonError, OSError."""
        offered = self._offer.drives
        if self._offer.mode is not Mode.SHARED or record.drive >= len(offered):
            raise StreamError(f"not a valid migration stream: drive number {record.drive} can't be compared")
        there = offered[record.drive]
        drive = next((each for each in self._incoming.drives if each.id == there.id), None)
        if drive is None:
            raise QmonError(f"drive '{there.id}' was removed at the destination")
        with reading(drive):
            seen, differing = answer_question(drive, there.size, bytes(record.payload), self._check)
        self._answer(answers.compared(seen.is_same, differing))

    def _check(self) -> None:
        if self._stopped is not None:
            raise QmonError(self._stopped)
        self._show_life()

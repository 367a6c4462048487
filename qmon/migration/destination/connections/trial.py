"""The destination's part in a trial: it reports what a migration would meet, and throws probes away.

Nothing is locked, recorded or written, and a migration that is offered meanwhile ends the trial.
"""

from __future__ import annotations

import logging
import time
from dataclasses import replace

from qmon.errors import QmonError
from qmon.migration.compare import answer_question
from qmon.migration.destination.connections.part import Connection, Part, seconds_until
from qmon.migration.destination.connections.replies import Applied
from qmon.migration.destination.images import reading
from qmon.migration.destination.offers.inspection import Inspection
from qmon.migration.destination.offers.settings import losses
from qmon.migration.destination.side import Side
from qmon.migration.progress import Progress
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Mode, Offer
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Kind, Mark, Record, StreamError

log = logging.getLogger("qmon.migration")

CHECK_SECONDS = 60
"""How long contents are compared. A trial that takes longer says so."""

LINE_SECONDS = 60
"""How long the source may measure the line, or compare shared disks, after the report."""


class Trial(Part):
    """The connection of a trial."""

    def __init__(self, side: Side, connection: Connection, offer: Offer) -> None:
        self._side = side
        self._connection = connection
        self._offer = offer
        self._progress = Progress()
        self._applied = Applied(connection.replies, self._progress)
        self._deadline = 0.0
        self._stopped: str | None = None

    def give_way(self, why: str) -> None:
        """End soon; ``why`` is told to the source. For any thread."""
        self._stopped = why

    def stop(self) -> None:
        self.give_way("the connection was closed at the destination")

    def report(self) -> None:
        """Check the offer and answer. Raises OSError, QmonError if it was stopped."""
        side = self._side
        looking = Inspection(side.inventory, side.options, self._offer, self._check, CHECK_SECONDS)
        found = looking.look(contents=True)
        found = replace(found, warnings=(*losses(self._offer, side.options), *found.warnings))
        count = len(found.mismatches)
        result = (
            f"it would be refused for {count} reason{'s'[: count > 1]}" if count else "it would be accepted"
        )
        log.info("incoming migration: a trial from %s: %s", self._connection.peer, result)
        self._connection.replies.send(answers.encode(answers.Type.REPORT, found.encode()))
        self._deadline = time.monotonic() + LINE_SECONDS

    def patience(self) -> float:
        return seconds_until(self._deadline)

    def why_late(self) -> str:
        return f"the trial has not ended within {LINE_SECONDS} s"

    def why_short(self) -> None:
        """The source has measured enough."""

    def take(self, item: Item) -> None:
        if isinstance(item, Mark):
            return
        if not isinstance(item, Record):
            raise StreamError("not a valid migration stream: GO came in a trial")
        self._check()
        match item.kind:
            case Kind.PROBE | Kind.PROGRESS | Kind.END:
                pass
            case Kind.COMPARE:
                self._compare(item)
            case Kind.WITHDRAW:
                raise QmonError(item.text)
            case _:
                raise StreamError(f"not a valid migration stream: {item.kind.name} came in a trial")
        self._progress.transferred += len(item.payload)
        self._applied.last = item.sequence

    def taken(self) -> None:
        self._applied.tell_if_due()

    def pause(self) -> None:
        self._applied.tell()

    def fail(self, why: str, *, is_broken: bool) -> None:
        self._connection.replies.try_send(answers.dismissed(why))
        log.info("incoming migration: the trial from %s ended: %s", self._connection.peer, why)

    def close(self) -> None:
        self._side.claim.end_trial(self)

    def _compare(self, record: Record) -> None:
        """Answer whether a shared drive is the source's disk. Raises StreamError, QmonError, OSError."""
        offered = self._offer.drives
        if self._offer.mode is not Mode.SHARED or record.drive >= len(offered):
            raise StreamError(f"not a valid migration stream: drive number {record.drive} can't be compared")
        there = offered[record.drive]
        drive = next((each for each in self._side.inventory.drives if each.id == there.id), None)
        if drive is None:
            raise QmonError(f"drive '{there.id}' was removed at the destination")
        with reading(drive):
            seen, differing = answer_question(drive, there.size, bytes(record.payload), self._check)
        self._connection.replies.send(answers.compared(seen.is_same, differing))

    def _check(self) -> None:
        if self._stopped is not None:
            raise QmonError(self._stopped)
        self._connection.replies.show_life()

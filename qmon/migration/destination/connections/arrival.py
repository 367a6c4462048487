"""A connection of which nothing is known yet: its first record says what it is for."""

from __future__ import annotations

import logging
import time
from uuid import UUID

from qmon.host.logs import TOLD_BY_EVENT
from qmon.migration.destination.connections.answered import Answered
from qmon.migration.destination.connections.channel import Channel
from qmon.migration.destination.connections.greeting import greet
from qmon.migration.destination.connections.part import ENDLESS, Connection, Part, seconds_until
from qmon.migration.destination.connections.recovery import resume
from qmon.migration.destination.connections.trial import Trial
from qmon.migration.destination.side import Side
from qmon.migration.patience import Patience
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Answers, Offer, Resume
from qmon.migration.wire.reader import Item
from qmon.migration.wire.stream import Go, Heard, Kind, Record, StreamError

log = logging.getLogger("qmon.migration")

ID_SIZE = 16
"""Bytes of a migration's id."""


def no_hello(patience: Patience) -> str:
    """Return the reason for closing a connection that has sent no offer or question in time."""
    return f"no migration was offered within {patience.hello:g} s"


class Arrival(Part):
    """It must send its first record by a deadline.

    With ``is_only`` nothing else will come in: its first byte may take any time, and its failure is that of
    the migration.
    """

    def __init__(self, side: Side, connection: Connection, *, is_only: bool) -> None:
        self._side = side
        self._connection = connection
        self._is_only = is_only
        self._deadline = time.monotonic() + side.options.patience.hello
        self._has_begun = not is_only
        self._asked: Offer | None = None
        """The offer of a source that does not know yet whether it hears answers."""

    @property
    def seconds_left(self) -> float:
        """How long it may take until its first record has arrived."""
        return seconds_until(self._deadline)

    def patience(self) -> float:
        return self.seconds_left if self._has_begun else ENDLESS

    def why_late(self) -> str:
        return no_hello(self._side.options.patience)

    def why_short(self) -> str:
        return "the connection ended before a migration was offered"

    def take(self, item: Item) -> None:
        if self.is_over:
            return
        match item:
            case Record() if self._asked is not None:
                if item.kind is not Kind.END:  # of the part with HELLO
                    self._hear_about_answers(self._asked, item)
            case Record(kind=Kind.HELLO):
                self._hello(Offer.decode(bytes(item.payload)))
            case Record(kind=Kind.TRIAL):
                self._begin_trial(Offer.decode(bytes(item.payload)))
            case Record(kind=Kind.CHANNEL):
                self._join(item)
            case Record():
                raise StreamError(f"not a valid migration stream: {item.kind.name} came before HELLO")
            case Go():
                answered = Answered(self._side, self._connection)
                self._connection.become(answered)
                answered.obey(item)
            case Heard():
                self._side.handover.heard(UUID(bytes=item.migration_id))

    def _hello(self, offer: Offer) -> None:
        replies = self._connection.replies
        if offer.resume is not None:
            self._resume(offer, offer.resume)
        elif offer.answers is Answers.ASKED:
            self._asked = offer
            replies.try_send(answers.encode(answers.Type.BUSY))
        else:
            replies.are_read = offer.answers is not Answers.UNHEARD
            greet(self._side, self._connection, offer)

    def _hear_about_answers(self, offer: Offer, record: Record) -> None:
        """Take the record that says whether answers are heard. Raises QmonError, OSError."""
        if record.kind is not Kind.ANSWERS:
            raise StreamError(f"not a valid migration stream: {record.kind.name} came instead of ANSWERS")
        self._connection.replies.are_read = bool(record.offset)
        greet(self._side, self._connection, offer)

    def _resume(self, offer: Offer, line: Resume) -> None:
        """Go on with a paused migration, or end it. Raises QmonError, OSError."""
        if not line.ended:
            resume(self._side, self._connection, offer, line)
            return
        self._side.interruption.end(offer.id, line.ended)
        self.is_over = True
        self._connection.replies.send(answers.agreed({}))

    def _begin_trial(self, offer: Offer) -> None:
        """Answer a trial; what follows is for it. Raises QmonError, OSError."""
        trial = Trial(self._side, self._connection, offer)
        self._side.claim.begin_trial(trial)
        self._connection.become(trial)
        self._connection.replies.limit()
        trial.report()

    def _join(self, record: Record) -> None:
        """Become a channel of another connection's migration. Raises StreamError, OSError."""
        if len(record.payload) != ID_SIZE:
            raise StreamError("not a valid migration stream: a CHANNEL without a migration's id")
        hub = self._side.claim.hub_of(UUID(bytes=bytes(record.payload)))
        hub.join(record.offset, self._connection)
        self._connection.become(Channel(hub, self._connection, record))
        self._connection.replies.limit()
        self._connection.replies.send(answers.agreed({}))

    def taken(self) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._deadline = time.monotonic() + self._side.options.patience.hello

    def fail(self, why: str, *, is_broken: bool) -> None:
        peer = self._connection.peer
        if self.is_over:
            log.debug("incoming migration: the source's connection ended: %s", why)
            return
        self._connection.replies.try_send(answers.dismissed(why))
        if self._is_only:
            self._side.interruption.fail_unoffered(why)
            log.error("incoming migration from %s failed: %s", peer, why, extra=TOLD_BY_EVENT)
        else:
            log.warning("incoming migration: connection from %s closed: %s", peer, why)

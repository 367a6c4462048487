"""Which connection has the incoming migration. At most one has, and a trial gives way to it."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Protocol
from uuid import UUID

from qmon.errors import QmonError
from qmon.migration.destination.course import Course
from qmon.migration.destination.hub import Abortable, Hub
from qmon.migration.destination.transfer import OfferedDrive, Transfer
from qmon.migration.phases import Phase
from qmon.migration.progress import Progress
from qmon.migration.states import Event
from qmon.migration.timeline import Mark
from qmon.migration.wire.offer import Offer, OfferError
from qmon.migration.wire.stream import StreamError

RELEASE_SECONDS = 5
"""How long a source that resumes waits until the end of its earlier line is noticed here."""


class Yielding(Protocol):
    """A trial, which changes nothing here."""

    def give_way(self, why: str) -> None:
        """End soon; ``why`` is told to the source. For any thread."""


class Claim:
    """For all connections' threads."""

    def __init__(self, course: Course) -> None:
        self._course = course
        self._free = threading.Condition(course.lock)
        """Notified when no connection has the migration any more."""
        self._trial: Yielding | None = None
        self.owner: Abortable | None = None

    def check_free(self) -> None:
        """Raises OfferError if no migration can be accepted now."""
        if self.owner is not None:
            raise OfferError("another incoming migration is under way")
        if self.can_recover:
            raise OfferError(
                "a paused migration waits here for its source: resume it there, or migrate_cancel here"
            )
        if self._course.phase in (Phase.COMPLETED, Phase.SETTLED):
            raise OfferError("the destination already runs: an earlier migration has completed")

    @property
    def can_recover(self) -> bool:
        """Whether a broken migration waits here for its source."""
        transfer, phase = self._course.transfer, self._course.phase
        has_lost = phase is Phase.PREPARED and self.owner is None
        return transfer is not None and transfer.can_resume and (phase is Phase.PAUSED or has_lost)

    def take(
        self, owner: Abortable, offer: Offer, offered: Sequence[OfferedDrive], *, forwards: bool
    ) -> Transfer:
        """Give a new migration to a connection; end a trial. Raises OfferError if another connection has it.

        ``forwards`` says whether its source may forward requests afterwards.
        """
        course = self._course
        with course.lock:
            self.check_free()
            if self._trial is not None:
                self._trial.give_way("a migration has begun at the destination")
            try:
                course.step(Event.START)
            except (QmonError, MemoryError):
                course.step(Event.FAIL)
                raise
            drives = [each.drive for each in offered]
            transfer = Transfer(offer.id, offer.mode, drives, forwards=forwards, offered=offered)
            transfer.begin_chains()
            self.owner, course.transfer, course.progress = owner, transfer, Progress()
            course.progress.timeline.mark(Mark.STATE, Phase.SETUP.value)
            return transfer

    def give(self, owner: Abortable) -> None:
        """Give a waiting migration to a connection. The lock is held, and no connection has the migration."""
        self.owner = owner

    def wait_free(self) -> None:
        """Wait a moment until no connection has the migration. The lock is held."""
        self._free.wait_for(lambda: self.owner is None, RELEASE_SECONDS)

    def release(self, owner: Abortable) -> bool:
        """Take the migration from a connection; return whether it had it."""
        with self._course.lock:
            if self.owner is not owner:
                return False
            self.owner = None
            self._free.notify_all()
            return True

    def hub_of(self, migration_id: UUID) -> Hub:
        """Return where the channels of a migration join. Raises StreamError."""
        with self._course.lock:
            transfer = self._course.transfer
            if self.owner is None or transfer is None or transfer.id != migration_id or transfer.hub is None:
                raise StreamError("a channel of a migration that is not under way here")
            return transfer.hub

    def begin_trial(self, trial: Yielding) -> None:
        """Note a trial. Raises OfferError if there is another one, or no migration can be accepted now."""
        with self._course.lock:
            self.check_free()
            if self._trial is not None:
                raise OfferError("another trial is under way at the destination")
            self._trial = trial

    def end_trial(self, trial: Yielding) -> None:
        """Forget a trial."""
        with self._course.lock:
            if self._trial is trial:
                self._trial = None

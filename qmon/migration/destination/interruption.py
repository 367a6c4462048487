"""Ends of a migration before GO: its line breaks, an operator pauses or cancels it, or its source ends it."""

from __future__ import annotations

import logging
import time
from uuid import UUID, uuid4

from qmon.errors import CommandError
from qmon.host.logs import TOLD_BY_EVENT
from qmon.migration.destination.claim import Claim
from qmon.migration.destination.course import Course
from qmon.migration.destination.hub import Abortable
from qmon.migration.destination.transfer import Transfer
from qmon.migration.parameters import NOT_PAUSABLE
from qmon.migration.phases import Phase
from qmon.migration.progress import Progress
from qmon.migration.states import Event
from qmon.migration.wire.offer import Mode, OfferError

log = logging.getLogger("qmon.migration")

BY_OPERATOR = "it was paused by migrate_pause"


class Interruption:
    """For all threads."""

    def __init__(self, course: Course, claim: Claim) -> None:
        self._course = course
        self._claim = claim
        self._is_to_pause = False

    @property
    def can_resume(self) -> bool:
        """Whether a broken line, or the end of this process, only pauses the migration."""
        transfer = self._course.transfer
        may_break = self._course.phase in (Phase.ACTIVE, Phase.PAUSED, Phase.RECOVER, Phase.PREPARED)
        return transfer is not None and transfer.can_resume and may_break

    def pause(self) -> None:
        """Close the line, and keep what is here. Raises CommandError if that is not possible."""
        with self._course.lock:
            transfer, owner = self._course.transfer, self._claim.owner
            may_pause = self._course.phase in (Phase.ACTIVE, Phase.RECOVER)
            if transfer is None or owner is None or not transfer.can_resume or not may_pause:
                raise CommandError(NOT_PAUSABLE)
            self._is_to_pause = True
        owner.abort()

    def lost(
        self, owner: Abortable, line: int, applied: int, why: str, left: str, *, is_broken: bool
    ) -> bool:
        """A connection has ended. Return whether its migration has failed; else it waits for its source.

        ``is_broken``: the line is the reason, so that the migration may go on. ``line`` is its number, and
        ``applied`` the last record from it that is applied. ``left`` is added to the error of a failed
        migration: the state of the images.
        """
        course = self._course
        with course.lock:
            if not self._claim.release(owner):
                return False
            transfer = course.transfer
            assert transfer is not None
            if transfer.can_resume:
                transfer.lines.broken(line, applied)
                if is_broken and course.takes(Event.BREAK):
                    course.progress.error = BY_OPERATOR if self._is_to_pause else why
                    self._is_to_pause = False
                    course.step(Event.BREAK)
                    return False
            if course.phase is Phase.PREPARED and not transfer.is_spoiled:
                course.progress.error = (
                    f"{why}; all data is here, waiting for the source to release the disks"
                )
                course.step(Event.LOST)
                return False
            self._fail(why + left)
            return True

    def cancel(self) -> None:
        """Give up the images of a paused migration. Does nothing if there is none. Blocks."""
        with self._course.lock:
            if self._course.phase is Phase.PAUSED:
                self._give_up_waiting("the migration was cancelled here")

    def end(self, migration_id: UUID, why: str) -> None:
        """The source has ended a migration that waits here. Raises OfferError if it does not."""
        with self._course.lock:
            transfer, owner = self._course.transfer, self._claim.owner
            if transfer is None or transfer.id != migration_id or not transfer.can_resume:
                raise OfferError("the destination has no such migration")
            if owner is not None:
                owner.abort()
                self._claim.wait_free()
            if not self._claim.can_recover:
                raise OfferError(f"the destination's migration is '{self._course.phase.status}'")
            self._give_up_waiting(why)

    def fail_unoffered(self, why: str) -> None:
        """Nothing will come in: the migration has failed before it was offered."""
        course = self._course
        with course.lock:
            if self._claim.owner is not None or course.phase not in (Phase.NONE, Phase.FAILED):
                return
            if course.transfer is None:
                course.transfer = Transfer(uuid4(), Mode.FULL, ())
            course.progress = Progress()
            course.progress.error = why
            course.end(Event.START)
            self._fail(why)

    def _give_up_waiting(self, why: str) -> None:
        self._fail(f"{why}; the images here are partial")
        log.error("incoming migration: %s", self._course.progress.error, extra=TOLD_BY_EVENT)

    def _fail(self, why: str) -> None:
        self._course.progress.error = why
        self._course.progress.ended = time.monotonic()
        self._course.end(Event.FAIL)

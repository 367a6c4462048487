"""The handover of the disks: PREPARED, GO and its answer, and what is told to a source that asks again."""

from __future__ import annotations

import logging
import time
from uuid import UUID

from qmon.errors import CommandError, QmonError, reason
from qmon.host.logs import TOLD_BY_EVENT
from qmon.migration.destination.course import Course, Replying
from qmon.migration.destination.records import Records
from qmon.migration.destination.transfer import Transfer
from qmon.migration.phases import Phase
from qmon.migration.progress import how_verified
from qmon.migration.states import Event
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Mode
from qmon.migration.wire.stream import Finish, Go, StreamError
from qmon.transitions import InvalidTransitionError

log = logging.getLogger("qmon.migration")


class Handover:
    """For all connections' threads; ``replying`` is the one that the answers go to."""

    def __init__(self, course: Course, records: Records) -> None:
        self._course = course
        self._records = records

    def finish(self, replying: Replying, finish: Finish) -> None:
        """All data has arrived: flush, record, and answer PREPARED. Raises OSError or QmonError."""
        course = self._course
        transfer = course.transfer
        assert transfer is not None
        transfer.records, transfer.digest, transfer.resume = finish.records, finish.digest, finish.running
        with course.lock:
            course.replying = replying
            try:
                course.step(Event.FINISHED)
            except (OSError, QmonError, MemoryError):
                transfer.is_spoiled = True
                raise

    def go_back(self, replying: Replying) -> None:
        """The source has taken back FINISH: its guests run, and it sends more.

        Raises StreamError if an operator has resolved the migration meanwhile, OSError or QmonError.
        """
        with self._course.lock:
            self._course.replying = replying
            if not self._course.try_step(Event.BACK):
                raise StreamError("the source continues, but an operator has resolved the migration here")

    def go(self, replying: Replying, order: Go) -> bool:
        """Obey GO, from the connection that brought the disks or from one that asks again.

        Returns whether the source was told that this side runs or has run. Raises StreamError if GO comes too
        early, OSError or QmonError if a refusal can't be recorded or sent.
        """
        course = self._course
        with course.lock:
            transfer = course.transfer
            if transfer is None or transfer.id.bytes != order.migration_id:
                return self._recall(replying, UUID(bytes=order.migration_id))
            if transfer.digest != order.digest:
                raise StreamError("the digest in GO differs from that of the received data")
            course.replying = replying
            if course.phase is Phase.PREPARED:
                self._take_over(transfer)
            elif not course.try_step(Event.GO):  # completed or refused: repeat the answer
                raise StreamError("not a valid migration stream: GO came too early")
            return course.phase in (Phase.COMPLETED, Phase.SETTLED)

    def _take_over(self, transfer: Transfer) -> None:
        """Run, or refuse for good. Raises OSError or QmonError if a refusal can't be recorded or sent."""
        course = self._course
        try:
            course.step(Event.GO)
        except (OSError, QmonError, MemoryError) as error:
            course.progress.error = reason(error)
            log.error("incoming migration %s refused: %s", transfer.id, reason(error), extra=TOLD_BY_EVENT)
            course.step(Event.REFUSED)
            return
        course.progress.ended = time.monotonic()
        course.progress.error = None
        course.progress.verified = how_verified(shared=transfer.mode is Mode.SHARED)
        course.step(Event.RUNNING)

    def _recall(self, replying: Replying, migration_id: UUID) -> bool:
        """Answer about an earlier migration from its journal record; return whether this side ran.

        Raises JournalError or OSError.
        """
        if self._records.has_run(migration_id):
            replying.send(answers.encode(answers.Type.RUNNING))
            return True
        if self._records.has_refused(migration_id):
            replying.send(answers.refused("another migration has replaced it"))
        else:
            replying.send(answers.encode(answers.Type.UNKNOWN))
        return False

    def heard(self, migration_id: UUID) -> None:
        """The source knows that this side runs: its record is not needed any more. Raises JournalError."""
        course = self._course
        with course.lock:
            if course.transfer is not None and course.transfer.id == migration_id:
                course.try_step(Event.HEARD)
            elif self._records.has_run(migration_id):
                self._records.forget(migration_id)

    def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE which side has the disks. Blocks. Raises CommandError."""
        course = self._course
        with course.lock:
            course.replying = None
            try:
                course.step(event)
                if event is Event.KEEP:
                    course.step(Event.RUNNING)
            except InvalidTransitionError:
                status = course.phase.status
                raise CommandError(f"There is nothing to resolve: the migration is {status}") from None
            except (OSError, QmonError, MemoryError) as error:
                if course.phase is Phase.GONE:
                    course.end(Event.REFUSED)
                raise CommandError(reason(error)) from error
            if event is Event.RELEASE:
                course.progress.error = "the operator decided that the other side keeps the disks"
            course.progress.ended = time.monotonic()

    def ended(self, replying: Replying) -> None:
        """A connection is closed: it takes no more answers."""
        with self._course.lock:
            if self._course.replying is replying:
                self._course.replying = None

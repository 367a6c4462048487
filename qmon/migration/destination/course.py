"""The course of the incoming migration: its phase and its figures, and what the state table's actions do."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

from qmon.errors import QmonError, reason
from qmon.migration.backing import Leftovers
from qmon.migration.destination import images
from qmon.migration.destination.records import Records
from qmon.migration.destination.transfer import Transfer
from qmon.migration.drive import MigratingDrive
from qmon.migration.journal import Entry
from qmon.migration.phases import Phase, Stand
from qmon.migration.progress import Progress
from qmon.migration.states import DESTINATION, Action, Event, StateMachine
from qmon.migration.timeline import Mark
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Mode
from qmon.transitions import takes

log = logging.getLogger("qmon.migration")


class Replying(Protocol):
    """A connection that takes answers."""

    def send(self, message: bytes) -> None:
        """Send a message to the source. Raises OSError."""


class Course:
    """Follows the destination's state table (``states.DESTINATION``) with the current or last migration.

    Hold ``lock`` where a step depends on what was looked at before. ``step`` may be called on any thread.
    """

    def __init__(
        self,
        records: Records,
        leftovers: Leftovers,
        start_machine: Callable[[bool], None],
        on_phase: Callable[[Phase], None],
    ) -> None:
        self.lock = threading.RLock()
        self.transfer: Transfer | None = None
        self.progress = Progress()
        self.replying: Replying | None = None
        """The connection that the table's answers go to."""
        self._records = records
        self._leftovers = leftovers
        self._start_machine = start_machine
        self._on_phase = on_phase
        self._states = StateMachine(DESTINATION, self._do, self._changed)

    def restore(self, entry: Entry, drives: Sequence[MigratingDrive]) -> None:
        """After a restart: go on from a journal record."""
        self.transfer = Transfer.restored(entry, drives)
        phase = entry.stand.phase
        self._states = StateMachine(DESTINATION, self._do, self._changed, phase)
        self.progress = Progress.from_record(entry.written, is_over=not phase.is_under_way)
        if phase is Phase.PAUSED:
            self.progress.error = "this side was restarted; the images here are partial"
        if phase is Phase.FAILED:
            self.progress.error = "the migration was refused before this side was restarted"

    @property
    def phase(self) -> Phase:
        return self._states.phase

    def takes(self, event: Event) -> bool:
        """Whether there is a transition for an event now."""
        return takes(DESTINATION, self.phase, event)

    def step(self, event: Event) -> None:
        """Make a transition. Raises InvalidTransitionError, or what an action raises: OSError, QmonError."""
        self._states.step(event)

    def try_step(self, event: Event) -> bool:
        """As ``step``, but return False if the event has no transition now."""
        return self._states.try_step(event)

    def end(self, event: Event) -> None:
        """End or fail, unless the migration already has; if that can't be recorded, log it."""
        try:
            self._states.try_step(event)
        except QmonError as error:
            log.error("incoming migration: %s", error)

    def _changed(self, phase: Phase) -> None:
        if phase is not Phase.SETUP:  # its progress is made after it (``Claim.take``)
            self.progress.timeline.mark(Mark.STATE, phase.value)
        self._on_phase(phase)

    def _do(self, action: Action) -> None:
        """Carry out an action of the state table. Raises OSError or QmonError."""
        transfer, records = self.transfer, self._records
        assert transfer is not None
        match action:
            case Action.LOCK:
                # The source has shared images until it releases them.
                if transfer.mode is not Mode.SHARED or self.phase is Phase.GONE:
                    images.lock(transfer, self._leftovers)
            case Action.GIVE_UP:
                images.give_up(transfer, self._leftovers)
            case Action.FLUSH:
                images.flush(transfer)
            case Action.RECORD_PREPARED:
                records.write(transfer, Stand.PREPARED)
            case Action.RECORD_RUNNING:
                records.write(transfer, Stand.RUNNING)
                records.forget_partial(transfer)
            case Action.RECORD_PARTIAL:
                if transfer.can_resume:
                    records.write(transfer, Stand.PARTIAL)
            case Action.RECORD_BACK:
                records.write(transfer, Stand.PARTIAL if transfer.can_resume else Stand.REFUSED)
            case Action.FORGET_PARTIAL:
                if transfer.can_resume:
                    records.forget_partial(transfer)
            case Action.RECORD_REFUSED:
                records.write(transfer, Stand.REFUSED)
            case Action.RECORD_SETTLED:
                records.write_again(transfer, Stand.SETTLED)
            case Action.RECORD_ENDED:
                records.write_again(transfer, Stand.ENDED)
            case Action.RUN:
                self._run(transfer)
            case Action.SEND_PREPARED:
                self._answer(answers.prepared(transfer.records, transfer.digest))
            case Action.SEND_BACK:
                self._answer(answers.encode(answers.Type.BACK))
            case Action.SEND_RUNNING:
                self._try_answer(answers.running(takes_requests=transfer.forwards))
            case Action.SEND_REFUSED:
                self._try_answer(answers.refused(self.progress.error or "the migration was refused before"))
            case _:
                raise AssertionError(f"{action.name} is not an action of the destination")

    def _run(self, transfer: Transfer) -> None:
        self._leftovers.clear()
        try:
            transfer.bitmaps.put()
        except (OSError, QmonError, MemoryError) as error:  # the disks are here, and the machine must run
            log.error("incoming migration: dirty bitmaps are not kept: %s", reason(error))
        self._start_machine(transfer.resume)

    def _answer(self, message: bytes) -> None:
        if self.replying is not None:
            self.replying.send(message)

    def _try_answer(self, message: bytes) -> None:
        """Answer. If that fails, it is only logged: the source will reconnect and ask."""
        try:
            self._answer(message)
        except OSError as error:
            log.warning("incoming migration: can't send an answer to the source: %s", reason(error))

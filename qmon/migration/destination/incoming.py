"""The destination: listens, receives one migration, and starts the machine when the source orders it."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from qmon.errors import CommandError, QmonError, reason
from qmon.host.logs import TOLD_BY_EVENT
from qmon.migration.backing import Leftovers
from qmon.migration.compare import Seen, open_as_seen
from qmon.migration.destination.door import Door
from qmon.migration.destination.session import Session, flushing_here, opening
from qmon.migration.destination.trial import Trial
from qmon.migration.drive import MigratingDrive
from qmon.migration.journal import Entry, Journal
from qmon.migration.patience import PATIENCE, Patience
from qmon.migration.phases import RAN, Phase, Role, Stand
from qmon.migration.progress import DriveFigures, Progress, how_verified
from qmon.migration.states import DESTINATION, Action, Event, InvalidTransitionError, StateMachine
from qmon.migration.wire import answers
from qmon.migration.wire.offer import Mode, OfferError
from qmon.migration.wire.stream import Go, StreamError

log = logging.getLogger("qmon.migration")

MAX_SESSIONS = 16
"""The most connections with a thread. For one more the oldest without an offer or question is closed."""


@dataclass(slots=True)
class Transfer:
    """The current or the last incoming migration."""

    id: UUID
    mode: Mode
    drives: Sequence[MigratingDrive]
    records: int = 0
    digest: int = 0
    resume: bool = True
    """Whether the machine is to run at the end, because it ran at the source."""
    seen: dict[str, Seen] = field(default_factory=dict)
    """By id of a shared drive: what the last comparison has found."""


class Incoming:
    """Receives one migration at a time into the drives, until one has completed.

    ``drives`` is called, on a data thread, when a migration is offered: drives may be added and removed
    before. ``start_machine(running)`` is called when the images are open; ``running`` says whether the
    machine ran at the source. ``on_phase`` is called at each change. Both are called on data threads.
    An unfit connection is closed with a line in the log, and the listener continues. A source that has lost
    its connection after GO may reconnect and ask, even when the machine runs.
    """

    def __init__(
        self,
        drives: Callable[[], Sequence[MigratingDrive]],
        journal: Journal,
        start_machine: Callable[[bool], None],
        on_phase: Callable[[Phase], None],
        entry: Entry | None = None,
        uuid: UUID | None = None,
        empty: Callable[[], Collection[str]] = tuple,
        patience: Patience = PATIENCE,
    ) -> None:
        """``entry`` is a journal record that was found at the start: of a prepared or refused migration.

        ``uuid`` is the machine's, None if it has none; ``empty`` returns the ids of drives without a medium.
        """
        self.uuid = uuid
        self.patience = patience
        self._empty = empty
        self._drives = drives
        self._journal = journal
        self._start_machine = start_machine
        self._transfer: Transfer | None = None
        phase = Phase.NONE
        if entry is not None:
            mode = Mode.SHARED if entry.shared else Mode.FULL
            self._transfer = Transfer(entry.id, mode, drives(), 0, entry.digest, entry.resume)
            phase = entry.stand.phase
        self._states = StateMachine(DESTINATION, self._do, on_phase, phase)
        self._claim = threading.RLock()
        self._owner: Session | None = None
        self._answering: Session | None = None
        self._trial: Trial | None = None
        self._sessions: dict[Session, None] = {}
        """The connections with a thread, oldest first."""
        self._door: Door | None = None
        self._spoiled = False
        """Whether the last flush or its journal record failed, so that GO can't be waited for."""
        self.progress = (
            Progress()
            if entry is None
            else Progress.from_record(entry.written, is_over=not phase.is_under_way)
        )
        if phase is Phase.FAILED:
            self.progress.error = "the migration was refused before this side was restarted"
        self.leftovers = Leftovers()
        """Used by the session that has the migration."""

    @property
    def phase(self) -> Phase:
        return self._states.phase

    @property
    def drive_figures(self) -> list[DriveFigures]:
        """Return the figures of each drive that is copied. The source tells only the sum of what remains."""
        progress, arrived = self.progress, dict(self.progress.arrived)
        if len(arrived) == 1:
            return [
                DriveFigures(id, count, progress.remaining, progress.total) for id, count in arrived.items()
            ]
        remaining = None if progress.remaining else 0
        return [DriveFigures(id, count, remaining, None) for id, count in arrived.items()]

    @property
    def drives(self) -> Sequence[MigratingDrive]:
        """Return the current drives."""
        return self._drives()

    @property
    def empty(self) -> Collection[str]:
        """Return the ids of the drives that have no medium now."""
        return self._empty()

    def listen(self, listener: socket.socket) -> None:
        """Begin to accept connections; returns at once. Raises OSError; then the listener is closed."""
        self._door = Door(listener, self._let_in, self.patience)

    def unlisten(self) -> None:
        """Stop accepting; existing connections stay. Blocks for a moment."""
        if self._door is not None:
            self._door.close()

    def stop(self) -> None:
        """Stop listening, and end a migration that has not been told to run; idempotent. Blocks."""
        self.unlisten()
        for session in list(self._sessions):
            session.end()
        for session in list(self._sessions):
            session.join()
        self._try(Event.END)

    def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE which side has the disks. Blocks. Raises CommandError."""
        with self._claim:
            self._answering = None
            try:
                self._states.step(event)
                if event is Event.KEEP:
                    self._states.step(Event.RUNNING)
            except InvalidTransitionError:
                status = self.phase.status
                raise CommandError(f"There is nothing to resolve: the migration is {status}") from None
            except (OSError, QmonError, MemoryError) as error:
                if self.phase is Phase.GONE:
                    self._try(Event.REFUSED)
                raise CommandError(reason(error)) from error
            if event is Event.RELEASE:
                self.progress.error = "the operator decided that the other side keeps the disks"
            self.progress.ended = time.monotonic()

    def _let_in(self, sock: socket.socket, peer: str) -> bool:
        """Start a session for a connection; if there is no room, make some and return False."""
        sessions = list(self._sessions)
        if len(sessions) >= MAX_SESSIONS:
            for session in sessions:
                if not session.has_spoken:
                    session.abort()
                    break
            return False
        session = Session(self, sock, peer)
        self._sessions[session] = None
        try:
            session.start()
        except BaseException:
            del self._sessions[session]
            raise
        return True

    def _do(self, action: Action) -> None:
        """Carry out an action of the state table. Raises OSError or QmonError."""
        transfer = self._transfer
        assert transfer is not None
        match action:
            case Action.LOCK if transfer.mode is not Mode.SHARED or self.phase is Phase.GONE:
                for drive in transfer.drives:
                    with opening(drive):
                        if drive.id in transfer.seen:
                            open_as_seen(drive, transfer.seen[drive.id])
                        drive.activate()
                        drive.check_name()
                        self.leftovers.opened(drive.image)
            case Action.LOCK:
                return  # the source has shared images until it releases them
            case Action.GIVE_UP:
                self._give_up(transfer)
            case Action.FLUSH:
                self._flush(transfer)
            case Action.RECORD_PREPARED:
                self._record(transfer, Stand.PREPARED)
            case Action.RECORD_RUNNING:
                self._record(transfer, Stand.RUNNING)
            case Action.RECORD_REFUSED:
                self._record(transfer, Stand.REFUSED)
            case Action.RECORD_SETTLED:
                self._record_again(transfer, Stand.SETTLED)
            case Action.RECORD_ENDED:
                self._record_again(transfer, Stand.ENDED)
            case Action.RUN:
                self.leftovers.clear()
                self._start_machine(transfer.resume)
            case Action.SEND_PREPARED:
                self._answer(answers.prepared(transfer.records, transfer.digest))
            case Action.SEND_BACK:
                self._answer(answers.encode(answers.Type.BACK))
            case Action.SEND_RUNNING:
                self._try_answer(answers.encode(answers.Type.RUNNING))
            case Action.SEND_REFUSED:
                self._try_answer(answers.refused(self.progress.error or "the migration was refused before"))
            case _:
                raise AssertionError(f"{action.name} is not an action of the destination")

    def _give_up(self, transfer: Transfer) -> None:
        for drive in transfer.drives:
            try:
                drive.abandon()  # it is partial, or was flushed before
                self.leftovers.closed(drive.image)
            except OSError as error:
                log.error("drive '%s': %s", drive.id, reason(error))

    @staticmethod
    def _flush(transfer: Transfer) -> None:
        if transfer.mode is Mode.SHARED:
            return
        for drive in transfer.drives:
            with opening(drive):
                drive.check_name()
            with flushing_here(drive):
                if drive.read_only:
                    drive.end_filling()
                else:
                    drive.node.flush()

    def _record(self, transfer: Transfer, stand: Stand) -> None:
        is_shared = transfer.mode is Mode.SHARED
        for drive in transfer.drives:
            if not drive.read_only:
                self._journal.write(
                    Entry(
                        drive.image, transfer.id.hex, stand, "", transfer.digest, transfer.resume, is_shared
                    )
                )

    def _record_again(self, transfer: Transfer, stand: Stand) -> None:
        """Change the journal record, unless a later migration of the disks has replaced it."""
        if self._journal.of_migration(transfer.id, Role.DESTINATION):
            self._record(transfer, stand)

    def _answer(self, message: bytes) -> None:
        if self._answering is not None:
            self._answering.answer(message)

    def _try_answer(self, message: bytes) -> None:
        """Answer. If that fails, it is only logged: the source will reconnect and ask."""
        try:
            self._answer(message)
        except OSError as error:
            log.warning("incoming migration: can't send an answer to the source: %s", reason(error))

    # Called by a session on its thread.

    def check_free(self) -> None:
        """Raises OfferError if no migration can be accepted now."""
        if self._owner is not None:
            raise OfferError("another incoming migration is under way")
        if self.phase in (Phase.COMPLETED, Phase.SETTLED):
            raise OfferError("the destination already runs: an earlier migration has completed")

    def begin_trial(self, trial: Trial) -> None:
        """Note a trial. Raises OfferError if there is another one, or no migration can be accepted now."""
        with self._claim:
            self.check_free()
            if self._trial is not None:
                raise OfferError("another trial is under way at the destination")
            self._trial = trial

    def end_trial(self, trial: Trial) -> None:
        """Forget a trial."""
        with self._claim:
            if self._trial is trial:
                self._trial = None

    def claim(
        self, session: Session, migration_id: UUID, mode: Mode, drives: Sequence[MigratingDrive]
    ) -> Progress:
        """Give the migration to this session; end a trial. Raises OfferError if another session has it."""
        with self._claim:
            self.check_free()
            if self._trial is not None:
                self._trial.stop("a migration has begun at the destination")
            try:
                self._states.step(Event.START)
            except (QmonError, MemoryError):
                self._states.step(Event.FAIL)
                raise
            self._owner, self._transfer = session, Transfer(migration_id, mode, drives)
            self._spoiled = False
            self.progress = Progress()
            return self.progress

    def agree(self) -> None:
        """Accept the offer: take the locks. Raises QmonError."""
        self._states.step(Event.AGREED)

    def note_seen(self, drive: MigratingDrive, seen: Seen) -> None:
        """Note what a comparison has found of a shared drive; it is opened only if it is still so."""
        assert self._transfer is not None
        self._transfer.seen[drive.id] = seen

    def finish(self, session: Session, records: int, digest: int, resume: bool) -> None:
        """All data has arrived: flush, record, and answer PREPARED. Raises OSError or QmonError."""
        transfer = self._transfer
        assert transfer is not None
        transfer.records, transfer.digest, transfer.resume = records, digest, resume
        with self._claim:
            self._answering = session
            try:
                self._states.step(Event.FINISHED)
            except (OSError, QmonError, MemoryError):
                self._spoiled = True
                raise

    def go_back(self, session: Session) -> None:
        """The source has taken back FINISH: its guests run, and it sends more.

        Raises StreamError if an operator has resolved the migration meanwhile, OSError or QmonError.
        """
        with self._claim:
            self._answering = session
            if not self._states.try_step(Event.BACK):
                raise StreamError("the source continues, but an operator has resolved the migration here")

    def go(self, session: Session, order: Go) -> bool:
        """Obey GO, from the session that brought the disks or from one that asks again.

        Returns whether the source was told that this side runs or has run. Raises StreamError if GO comes too
        early, OSError or QmonError if a refusal can't be recorded or sent.
        """
        with self._claim:
            if self._owner is session:
                self._owner = None  # from now on any session may ask
            transfer = self._transfer
            if transfer is None or transfer.id.bytes != order.migration_id:
                return self._recall(session, UUID(bytes=order.migration_id))
            if transfer.digest != order.digest:
                raise StreamError("the digest in GO differs from that of the received data")
            self._answering = session
            if self.phase is Phase.PREPARED:
                self._take_over(transfer)
            elif not self._states.try_step(Event.GO):  # completed or refused: repeat the answer
                raise StreamError("not a valid migration stream: GO came too early")
            return self.phase in (Phase.COMPLETED, Phase.SETTLED)

    def _take_over(self, transfer: Transfer) -> None:
        """Run, or refuse for good. Raises OSError or QmonError if a refusal can't be recorded or sent."""
        try:
            self._states.step(Event.GO)
        except (OSError, QmonError, MemoryError) as error:
            self.progress.error = reason(error)
            log.error("incoming migration %s refused: %s", transfer.id, reason(error), extra=TOLD_BY_EVENT)
            self._states.step(Event.REFUSED)
            return
        self.progress.ended = time.monotonic()
        self.progress.error = None
        self.progress.verified = how_verified(shared=transfer.mode is Mode.SHARED)
        self._states.step(Event.RUNNING)

    def _recall(self, session: Session, migration_id: UUID) -> bool:
        """Answer about an earlier migration from its journal record; return whether this side ran.

        Raises JournalError or OSError.
        """
        if self._journal.of_migration(migration_id, Role.DESTINATION, RAN):
            session.answer(answers.encode(answers.Type.RUNNING))
            return True
        if self._journal.of_migration(migration_id, Role.DESTINATION, {Stand.REFUSED}):
            session.answer(answers.refused("another migration has replaced it"))
        else:
            session.answer(answers.encode(answers.Type.UNKNOWN))
        return False

    def heard(self, migration_id: UUID) -> None:
        """The source knows that this side runs: its record is not needed any more. Raises JournalError."""
        with self._claim:
            if self._transfer is not None and self._transfer.id == migration_id:
                self._states.try_step(Event.HEARD)
            elif self._journal.of_migration(migration_id, Role.DESTINATION, RAN):
                self._journal.forget(migration_id, Role.DESTINATION)

    def lost(self, session: Session, why: str, left: str) -> bool:
        """The session has ended. Return whether its migration has failed, or False if it waits for GO.

        ``left`` is added to the error of a failed migration: the state of the images.
        """
        with self._claim:
            if self._owner is not session:
                return False
            self._owner = None
            if self.phase is Phase.PREPARED and not self._spoiled:
                self.progress.error = f"{why}; all data is here, waiting for the source to release the disks"
                self._states.step(Event.LOST)
                return False
            self.progress.error = why + left
            self.progress.ended = time.monotonic()
            self._try(Event.FAIL)
            return True

    def _try(self, event: Event) -> None:
        """End or fail, unless the migration already has; if that can't be recorded, log it."""
        try:
            self._states.try_step(event)
        except QmonError as error:
            log.error("incoming migration: %s", error)

    def ended(self, session: Session) -> None:
        """The session's thread is about to end."""
        self._sessions.pop(session, None)
        with self._claim:
            if self._owner is session:
                self._owner = None
            if self._answering is session:
                self._answering = None

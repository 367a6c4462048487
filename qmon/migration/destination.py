"""The destination's side: listens, takes one migration in, and runs when it is told to."""

from __future__ import annotations

import contextlib
import logging
import socket
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from qmon.errors import CommandError, QmonError, reason
from qmon.migration import answers
from qmon.migration.backing import Leftovers
from qmon.migration.compare import Seen, open_as_seen
from qmon.migration.drive import MigratingDrive
from qmon.migration.journal import Entry, Journal, Role, Stand
from qmon.migration.offer import Mode, OfferError
from qmon.migration.progress import Progress
from qmon.migration.session import Session, opening
from qmon.migration.states import (
    DESTINATION,
    Action,
    Event,
    InvalidTransitionError,
    Phase,
    StateMachine,
    status_of,
)
from qmon.migration.stream import Go, StreamError

log = logging.getLogger("qmon.migration")

MAX_UNGREETED = 16
"""Connections that may be open without having said hello; one more is closed at once."""


_STANDS = {
    Stand.PREPARED: Phase.PREPARED,
    Stand.RUNNING: Phase.COMPLETED,
    Stand.SETTLED: Phase.SETTLED,
    Stand.REFUSED: Phase.FAILED,
}


_RAN = frozenset({Stand.RUNNING, Stand.SETTLED, Stand.ENDED})


@dataclass(slots=True)
class Transfer:
    """The migration that comes in, or came in last."""

    id: UUID
    mode: Mode
    drives: Sequence[MigratingDrive]
    records: int = 0
    digest: int = 0
    resume: bool = True
    """Whether the machine is to run, as it did at the source."""
    seen: dict[str, Seen] = field(default_factory=dict)
    """Of shared drives, by their ids, what was found when they were compared last."""


class Incoming:
    """Takes in one migration at a time into the drives, until one is complete.

    ``drives`` is asked, on a data thread, when a migration offers itself: they may come and go before.
    ``start_machine(running)`` is called when the images are open and the machine may run, or is to stand as
    it stood at the source. ``on_phase`` is called at each change. Both are called on data threads.
    A connection that does not fit is closed with a line in the log, and the listener goes on. A source that
    has lost its connection behind GO may come back and ask, also when the machine runs.
    """

    def __init__(
        self,
        drives: Callable[[], Sequence[MigratingDrive]],
        journal: Journal,
        start_machine: Callable[[bool], None],
        on_phase: Callable[[Phase], None],
        entry: Entry | None = None,
        uuid: UUID | None = None,
    ) -> None:
        """With ``entry``, what a restart found, a migration stands prepared, or was refused.

        ``uuid`` is the machine's, None where it was given none.
        """
        self.uuid = uuid
        self._drives = drives
        self._journal = journal
        self._start_machine = start_machine
        self._transfer: Transfer | None = None
        phase = Phase.NONE
        if entry is not None:
            mine = [drive for drive in drives() if not drive.read_only]
            mode = Mode.SHARED if entry.shared else Mode.FULL
            self._transfer = Transfer(entry.id, mode, mine, 0, entry.digest, entry.resume)
            phase = _STANDS[entry.stand]
        self._states = StateMachine(DESTINATION, self._do, on_phase, phase)
        self._claim = threading.RLock()
        self._owner: Session | None = None
        self._answering: Session | None = None
        self._sessions: set[Session] = set()
        self._listener: socket.socket | None = None
        self._spoiled = False
        """Whether the last flush or the record of it failed: then there is nothing to wait for."""
        self.progress = Progress()
        self.leftovers = Leftovers()
        """For the session whose migration it is."""
        self._thread: threading.Thread | None = None

    @property
    def phase(self) -> Phase:
        return self._states.phase

    @property
    def drives(self) -> Sequence[MigratingDrive]:
        """The drives of now."""
        return self._drives()

    def listen(self, listener: socket.socket) -> None:
        """Begin to accept connections; returns at once."""
        self._listener = listener
        self._thread = threading.Thread(
            target=self._accept, args=(listener,), name="migration-incoming", daemon=True
        )
        self._thread.start()

    def unlisten(self) -> None:
        """Accept no more connections; those there are go on. Blocks for a moment."""
        if self._listener is not None:
            listener, self._listener = self._listener, None
            with contextlib.suppress(OSError):  # already closed
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        if self._thread is not None and threading.current_thread() is not self._thread:
            self._thread.join()

    def stop(self) -> None:
        """Stop listening and end what is under way, if it has not been told to run; idempotent. Blocks."""
        self.unlisten()
        for session in list(self._sessions):
            session.end()
        for session in list(self._sessions):
            session.join()
        try:
            self._states.try_step(Event.END)
        except QmonError as error:
            log.error("incoming migration: %s", error)

    def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE whose the disks are. Blocks. Raises CommandError."""
        with self._claim:
            self._answering = None
            try:
                self._states.step(event)
                if event is Event.KEEP:
                    self._states.step(Event.RUNNING)
            except InvalidTransitionError:
                status = status_of(self.phase)
                raise CommandError(f"There is nothing to resolve: the migration is {status}") from None
            except (OSError, QmonError) as error:
                if self.phase is Phase.GONE:
                    self._states.step(Event.REFUSED)
                raise CommandError(reason(error)) from error
            if event is Event.RELEASE:
                self.progress.error = "it was decided that the other side keeps the disks"
            self.progress.ended = time.monotonic()

    def _accept(self, listener: socket.socket) -> None:
        while self._listener is listener:
            try:
                sock, peer = listener.accept()
            except OSError as error:
                if self._listener is listener:
                    log.error("incoming migration: can't accept connections any more: %s", reason(error))
                return
            name = f"{peer[0]}:{peer[1]}" if isinstance(peer, tuple) else "a local process"
            if len(self._sessions) >= MAX_UNGREETED:
                log.warning("incoming migration: connection from %s closed: too many are open", name)
                sock.close()
                continue
            session = Session(self, sock, name)
            self._sessions.add(session)
            session.start()

    def _do(self, action: Action) -> None:
        """Carry out an action of the table. Raises OSError or QmonError."""
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
                return  # shared images are the source's until it has let go
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
                self._try_answer(answers.refused(self.progress.error or "it was refused before"))
            case _:
                raise AssertionError(f"{action.name} is not the destination's")

    def _give_up(self, transfer: Transfer) -> None:
        for drive in transfer.drives:
            try:
                drive.abandon()  # what is here is partial, or was flushed before
                self.leftovers.closed(drive.image)
            except OSError as error:
                log.error("drive '%s': %s", drive.id, reason(error))

    @staticmethod
    def _flush(transfer: Transfer) -> None:
        if transfer.mode is Mode.SHARED:
            return
        for drive in transfer.drives:
            if not drive.read_only:
                with opening(drive):
                    drive.check_name()
                try:
                    drive.node.flush()
                except OSError as error:
                    raise QmonError(
                        f"drive '{drive.id}': flush failed at the destination: {reason(error)}"
                    ) from error

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
        """Change what is recorded, unless a later migration of the disks has ended it."""
        if self._journal.of_migration(transfer.id, Role.DESTINATION):
            self._record(transfer, stand)

    def _answer(self, message: bytes) -> None:
        if self._answering is not None:
            self._answering.answer(message)

    def _try_answer(self, message: bytes) -> None:
        """Answer; a source that can't be told comes back and asks."""
        try:
            self._answer(message)
        except OSError as error:
            log.warning("incoming migration: the source could not be told: %s", reason(error))

    # What a session asks, on its thread.

    def claim(
        self, session: Session, migration_id: UUID, mode: Mode, drives: Sequence[MigratingDrive]
    ) -> Progress:
        """Make this session the one whose migration it is. Raises OfferError when another is."""
        with self._claim:
            if self._owner is not None:
                raise OfferError("another migration is already coming in")
            if self.phase in (Phase.COMPLETED, Phase.SETTLED):
                raise OfferError("the destination runs already: a migration has come in before")
            try:
                self._states.step(Event.START)
            except QmonError:
                self._states.step(Event.FAIL)
                raise
            self._owner, self._transfer = session, Transfer(migration_id, mode, drives)
            self._spoiled = False
            self.progress = Progress()
            return self.progress

    def agree(self) -> None:
        """The offer fits: take the locks. Raises QmonError."""
        self._states.step(Event.AGREED)

    def note_seen(self, drive: MigratingDrive, seen: Seen) -> None:
        """A drive that does not travel was compared: it is run with as it was seen."""
        assert self._transfer is not None
        self._transfer.seen[drive.id] = seen

    def finish(self, session: Session, records: int, digest: int, resume: bool) -> None:
        """Everything is here: flush, record and say so. Raises OSError or QmonError."""
        transfer = self._transfer
        assert transfer is not None
        transfer.records, transfer.digest, transfer.resume = records, digest, resume
        with self._claim:
            self._answering = session
            try:
                self._states.step(Event.FINISHED)
            except (OSError, QmonError):
                self._spoiled = True
                raise

    def go_back(self, session: Session) -> None:
        """The source lets its guests on after all, and sends more.

        Raises StreamError where somebody has decided meanwhile, OSError or QmonError.
        """
        with self._claim:
            self._answering = session
            if not self._states.try_step(Event.BACK):
                raise StreamError("the source goes back, but it was decided here whose the disks are")

    def go(self, session: Session, order: Go) -> None:
        """The order to run, from the session that brought the disks or from one that asks again.

        Raises StreamError for an order that comes too early, OSError or QmonError for a refusal that can't
        be recorded or told.
        """
        with self._claim:
            if self._owner is session:
                self._owner = None  # from now on whoever asks is as good
            transfer = self._transfer
            if transfer is None or transfer.id.bytes != order.migration_id:
                session.answer(self._recall(UUID(bytes=order.migration_id)))
                return
            if transfer.digest != order.digest:
                raise StreamError("the order to run is for other content")
            self._answering = session
            if self.phase is not Phase.PREPARED:
                if not self._states.try_step(Event.GO):  # completed, or refused: say so again
                    raise StreamError("not a valid migration stream: the order to run came too early")
                return
            try:
                self._states.step(Event.GO)
            except (OSError, QmonError) as error:
                self.progress.error = reason(error)
                log.error("incoming migration %s refused: %s", transfer.id, reason(error))
                self._states.step(Event.REFUSED)
                return
            self.progress.ended = time.monotonic()
            self.progress.error = None
            self._states.step(Event.RUNNING)

    def _recall(self, migration_id: UUID) -> bytes:
        """The answer about a migration before this one, by what is recorded. Raises JournalError."""
        if self._journal.of_migration(migration_id, Role.DESTINATION, _RAN):
            return answers.encode(answers.Type.RUNNING)
        if self._journal.of_migration(migration_id, Role.DESTINATION, {Stand.REFUSED}):
            return answers.refused("another migration took its place")
        return answers.encode(answers.Type.UNKNOWN)

    def heard(self, migration_id: UUID) -> None:
        """The source of a migration that has come in here knows it. Raises JournalError."""
        with self._claim:
            if self._transfer is not None and self._transfer.id == migration_id:
                self._states.try_step(Event.HEARD)
            elif self._journal.of_migration(migration_id, Role.DESTINATION, _RAN):
                self._journal.forget(migration_id, Role.DESTINATION)

    def lost(self, session: Session, why: str, left: str) -> bool:
        """The session's migration can't go on; say whether it has failed, and does not just wait for GO.

        ``left`` is what there is to say of the images, should it have failed.
        """
        with self._claim:
            if self._owner is not session:
                return False
            self._owner = None
            if self.phase is Phase.PREPARED and not self._spoiled:
                self.progress.error = f"{why}; everything is here, and waits until the source lets go"
                self._states.step(Event.LOST)
                return False
            self.progress.error = why + left
            self.progress.ended = time.monotonic()
            try:
                self._states.try_step(Event.FAIL)
            except QmonError as error:
                log.error("incoming migration: %s", error)
            return True

    def ended(self, session: Session) -> None:
        """The session's thread is about to end."""
        self._sessions.discard(session)
        with self._claim:
            if self._owner is session:
                self._owner = None
            if self._answering is session:
                self._answering = None

"""The source of a migration: one data thread that goes through the states of ``states.SOURCE``."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from uuid import UUID, uuid4

from qmon.errors import CommandError, QmonError, reason
from qmon.host.threads import start_thread
from qmon.migration.drive import GATE_REASON, MigratingDrive, flushing
from qmon.migration.journal import Entry, Journal
from qmon.migration.parameters import Parameters
from qmon.migration.patience import PATIENCE, Patience
from qmon.migration.phases import Phase, Role, Stand
from qmon.migration.progress import Progress, how_verified
from qmon.migration.source import agreement
from qmon.migration.source.convergence import Convergence
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.gain import Stuck
from qmon.migration.source.handover import Handover, doubt
from qmon.migration.source.link import Link, LinkError, open_link
from qmon.migration.source.observer import Observer
from qmon.migration.source.plan import plan
from qmon.migration.source.sender import Sender
from qmon.migration.source.shared import SharedDisks
from qmon.migration.source.switchover import Switchover, close_gate
from qmon.migration.states import SOURCE, Action, Event, InvalidTransitionError, StateMachine
from qmon.migration.wire.answers import Type
from qmon.migration.wire.offer import Mode, Offer
from qmon.migration.wire.stream import PREAMBLE, go, heard, section_start
from qmon.migration.wire.transport import Transport

log = logging.getLogger("qmon.migration")

DRAIN_TIMEOUT = 10
"""Seconds to wait for the requests inside a gate before the copy begins; then the migration fails."""


class CancelledError(QmonError):
    """The migration was cancelled here."""


class Source:
    """A migration by ``transport``. The loop makes and calls it; it works on threads of its own.

    ``on_phase`` is called on its thread at each change, ``on_stuck`` if the copy does not gain on the guests'
    writes; ``is_running`` says whether the machine ran when the gates closed. Every public call except
    ``resolve`` returns at once.
    """

    def __init__(
        self,
        transport: Transport,
        mode: Mode,
        drives: Sequence[MigratingDrive],
        parameters: Parameters,
        journal: Journal,
        on_phase: Callable[[Phase], None],
        on_stuck: Callable[[Stuck], None],
        is_running: Callable[[], bool],
        entry: Entry | None = None,
        *,
        uuid: UUID | None = None,
        empty: Sequence[str] = (),
        pause: bool = False,
        patience: Patience = PATIENCE,
    ) -> None:
        """``entry`` is a journal record that was found at the start: the migration continues from its state.

        ``uuid`` is the machine's, if the destination's must be equal; ``empty`` are the ids of drives without
        a medium; with ``pause`` the switchover waits for ``go_on``.
        """
        self.id = uuid4() if entry is None else entry.id
        self.mode = mode
        self._transport = transport
        self._drives = list(drives)
        self._parameters = parameters
        self._journal = journal
        self._uuid = uuid
        self._patience = patience
        self._empty = tuple(empty)
        self._running = True if entry is None else entry.resume
        self._digest = 0 if entry is None else entry.digest
        phase = Phase.NONE if entry is None else entry.stand.phase
        self._states = StateMachine(SOURCE, self._do, on_phase, phase)
        self._is_recorded = entry is not None
        """Whether there may be journal records of this migration."""
        self._copies: list[DriveCopy] = []
        self.progress = (
            Progress()
            if entry is None
            else Progress.from_record(entry.written, is_over=not phase.is_under_way)
        )
        self.observer = Observer(
            parameters,
            self.progress,
            copies=lambda: self._copies,
            in_flight=lambda: self._sender.in_flight,
            is_copying=lambda: self.phase is Phase.ACTIVE,
            tell=on_stuck,
            seconds=patience.gain,
        )
        self._sender = Sender(
            parameters,
            self.progress,
            check=self._check,
            unsent=lambda: sum(copy.remaining for copy in self._copies),
            is_limited=lambda: self.phase is Phase.ACTIVE,
            observe=self.observer.note,
            sign_seconds=patience.sign,
        )
        self._switchover = Switchover(
            self._drives,
            self._states,
            parameters,
            self._sender,
            self.progress,
            step=self._step,
            check=self._check,
            is_running=is_running,
            pause=pause,
            margin_seconds=patience.margin,
        )
        self._handover = Handover(transport, self._states, self._sender, self.progress, self._finish)
        if phase is Phase.DOUBT:
            self.progress.error = doubt("this side was restarted before an answer arrived")
        self._thread = threading.Thread(target=self._run, name="migration-source", daemon=True)

    @property
    def phase(self) -> Phase:
        return self._states.phase

    @property
    def peer(self) -> str:
        """The destination's address as it was given."""
        return self._transport.uri

    def start(self) -> None:
        """Begin; or, if a restart has found doubt, continue to ask. Raises OSError."""
        if self.phase is Phase.NONE:
            self._states.step(Event.START)
        try:
            start_thread(self._thread)
        except OSError as error:
            if self.phase is Phase.DOUBT:
                raise
            self._end(reason(error))

    def cancel(self) -> None:
        """Cancel, if GO has not been sent. Does nothing if the migration has ended.

        Raises CommandError after GO.
        """
        if self._states.try_step(Event.CANCEL):
            self._abort()
        elif self.phase.is_under_way and self.phase is not Phase.CANCELLING:
            raise CommandError(
                "The migration can't be cancelled any more: the destination has been told to run"
            )

    def go_on(self) -> None:
        """End the pause at the switchover."""
        self._switchover.go_on()

    def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE which side has the disks. Blocks.

        Raises CommandError if there is nothing to decide; also the error that keeps this side from opening
        the disks.
        """
        self.progress.is_kept, before = event is Event.KEEP, self.progress.is_kept  # the step reports its end
        try:
            self._states.step(event)
        except InvalidTransitionError:
            self.progress.is_kept = before
            raise CommandError(f"There is nothing to resolve: the migration is {self.phase.status}") from None
        except (OSError, QmonError) as error:
            self.progress.is_kept = before
            raise CommandError(reason(error)) from error
        self._handover.stop()
        self.progress.error = (
            "the operator decided that this side keeps the disks" if event is Event.KEEP else None
        )
        self._note_end()

    def forget(self) -> None:
        """Remove a journal record whose removal failed when the disks came back. Raises JournalError."""
        if self.phase in (Phase.FAILED, Phase.CANCELLED):
            self._forget()

    def leave(self) -> None:
        """End the threads in any phase. The journal has what a restart must know."""
        self._handover.stop()
        self._abort()

    def _abort(self) -> None:
        if (link := self._sender.link) is not None:
            link.abort()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads have ended; return whether they have."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            if self.phase is not Phase.DOUBT:
                self._attempt()
            self._handover.settle()
        except Exception:
            log.exception("the migration stopped by an internal error; its state is in the journal")
        finally:
            if self._sender.link is not None:
                self._sender.link.close()

    def _attempt(self) -> None:
        try:
            self._migrate()
        except (OSError, QmonError, MemoryError) as error:
            self._end(reason(error))
        except Exception as error:
            log.exception("the migration failed by an internal error")
            self._end(f"internal error: {error!r}")

    def _migrate(self) -> None:
        offers, self._copies, _ = plan(
            self._drives, self.mode, self._parameters.verify_backing, self.id, self._check
        )
        offer = Offer(self.id, self.mode, offers, self._uuid, self._empty)
        link = self._connect()
        self._agree(link, offer)
        convergence = Convergence(
            self._drives,
            self._copies,
            self.mode,
            self._parameters,
            self._sender,
            self.progress,
            self.observer,
        )
        shared = None
        if self.mode is Mode.SHARED:
            shared = SharedDisks(self._drives, self._sender, link, random.Random(self.id.int))
            shared.prove(convergence.flush_while_running)
        convergence.reach(link)
        while (prepared := self._switchover.attempt(link, convergence, shared)) is None:
            convergence.reach(link)
        self._digest, self._running = prepared.digest, prepared.running
        self._step(Event.PREPARED)
        link.check()  # the journal's write took time, and the connection may be lost
        # The point of no return: a cancel takes effect before this step or not at all.
        self._step(Event.GO)

    def _do(self, action: Action) -> None:
        """Carry out an action of the state table. Raises OSError or QmonError."""
        match action:
            case Action.CLOSE_GATES:
                self._switchover.close_gates()
            case Action.OPEN_GATES:
                self._switchover.open_gates()
            case Action.LET_GO:
                for copy in self._copies:
                    copy.uninstall()
                # The gates are closed, and all that the other host will read was flushed.
                for drive in self._drives:
                    with flushing(drive):
                        drive.deactivate(flush=False)
            case Action.RECORD_GONE:
                self._record(Stand.GONE)
            case Action.SEND_GO:
                self._sender.writer.raw(go(self.id.bytes, self._digest))
                self._sender.expect(Type.RUNNING, Type.UNKNOWN)
                self._sender.flush()
            case Action.RECORD_MOVED:
                self._record(Stand.MOVED)
            case Action.SEND_HEARD:
                self._say_heard()
            case Action.FORGET:
                self._forget()
            case Action.TURN_AWAY:
                for drive in self._drives:
                    drive.gate.shut()
            case Action.TAKE_BACK:
                self._run_on()
            case _:
                raise AssertionError(f"{action.name} is not an action of the source")

    def _record(self, stand: Stand) -> None:
        self._is_recorded = True  # even if it fails: the record may have been written
        for drive in self._drives:
            if not drive.read_only:
                self._record_one(drive, stand)

    def _record_one(self, drive: MigratingDrive, stand: Stand) -> None:
        is_shared = self.mode is Mode.SHARED
        self._journal.write(
            Entry(
                drive.image, self.id.hex, stand, self._transport.uri, self._digest, self._running, is_shared
            )
        )

    def _forget(self) -> None:
        """Remove the journal records of this migration, and of no other.

        Records of another host can't be removed; they are overruled instead.
        """
        if not self._is_recorded:
            return
        self._journal.forget(self.id, Role.SOURCE)
        self._is_recorded = False
        for drive in self._drives:
            if not drive.read_only and any(
                record.entry.id == self.id and record.entry.role is Role.SOURCE
                for record in self._journal.find(drive.image)
            ):
                self._record_one(drive, Stand.KEPT)

    def _say_heard(self) -> None:
        """Confirm RUNNING. Without the confirmation the destination keeps its record, which is harmless."""
        self._sender.writer.raw(heard(self.id.bytes))
        try:
            self._sender.flush()
        except (OSError, QmonError) as error:
            log.debug("can't confirm the destination's answer: %s", reason(error))
        self.progress.remaining = 0  # the confirmation was the last thing to send

    def _check(self) -> None:
        if self.phase is Phase.CANCELLING:
            raise CancelledError("the migration was cancelled")
        if self._switchover.failure is not None:
            raise QmonError(self._switchover.failure)

    def _connect(self) -> Link:
        link = self._sender.link = open_link(self._transport, self.progress, self._check)
        self._check()
        return link

    def _agree(self, link: Link, offer: Offer) -> None:
        self._sender.writer.raw(PREAMBLE + section_start())
        self._sender.writer.hello(offer.encode())
        self._sender.expect(*agreement.ANSWERS)
        self._sender.end_part()
        seconds = self._patience.agree
        agreement.hear(link, offer, self._copies, lambda index: self._needed(offer, index), seconds)
        self._track()
        self.progress.agreed = time.monotonic()
        self._step(Event.AGREED)

    def _needed(self, offer: Offer, index: int) -> DriveCopy:
        """Return the copy of a read-only drive that the destination asks for. Raises LinkError."""
        lacks = index < len(self._drives) and offer.drives[index].content is not None
        if not lacks or any(copy.index == index for copy in self._copies):
            raise LinkError(f"the destination asked for drive {index}, which was not offered for a copy")
        copy = DriveCopy(index, self._drives[index])
        self._copies.append(copy)
        return copy

    def _track(self) -> None:
        """Install the dirty maps, and mark what must be sent."""
        for copy in self._copies:
            close_gate(copy.drive, DRAIN_TIMEOUT)
            try:
                copy.install()
            finally:
                copy.drive.gate.open(GATE_REASON)
        self._sender.begin_survey()
        for copy in self._copies:
            copy.survey(self._sender.show_life)
        self._sender.end_survey()
        self.progress.total = sum(copy.total for copy in self._copies)
        self.progress.remaining = sum(copy.dirty.dirty_bytes for copy in self._copies)

    def _finish(self, event: Event) -> None:
        """Make the last transition. Its errors are reported; the disks are not used any more."""
        self._note_end()
        if event is Event.RUNNING:
            self.progress.verified = how_verified(shared=self.mode is Mode.SHARED)
        try:
            self._states.step(event)
        except (OSError, QmonError, MemoryError) as error:
            self.progress.error = "; then ".join(filter(None, (self.progress.error, reason(error))))
            log.error("migration: %s", self.progress.error)

    def _step(self, event: Event) -> None:
        """Make a transition. Raises CancelledError if the migration was cancelled just before."""
        if not self._states.try_step(event):
            self._check()
            self._states.step(event)

    def _note_end(self) -> None:
        self.progress.ended = time.monotonic()
        if self.progress.gates_closed is not None:
            self.progress.downtime = self.progress.ended - self.progress.gates_closed

    def _end(self, why: str) -> None:
        """Handle an error: before GO the machine runs on here, after GO the source asks again."""
        if self.phase is Phase.GONE:
            self._handover.lose(why)
            return
        if self.phase is not Phase.CANCELLING:
            self.progress.error = self._switchover.failure or why  # the reason why it closed the connection
        self._finish(Event.FAIL)

    def _run_on(self) -> None:
        """Give the drives back to the machine as they were. Raises OSError if an image can't be opened."""
        for copy in self._copies:
            copy.uninstall()
        try:
            for drive in self._drives:
                drive.activate()
        finally:
            # Open all gates: requests to an image that could not be opened must fail, not wait.
            for drive in self._drives:
                drive.gate.reopen()
                drive.gate.open(GATE_REASON)

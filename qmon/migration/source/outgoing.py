"""The source of a migration: one data thread that goes through the states of ``states.SOURCE``."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from uuid import uuid4

from qmon.errors import CommandError, QmonError, reason
from qmon.host.logs import TOLD_BY_EVENT
from qmon.host.threads import start_thread
from qmon.migration.drive import MigratingDrive
from qmon.migration.journal import Entry, Journal
from qmon.migration.parameters import NOT_PAUSABLE, Parameters
from qmon.migration.patience import PATIENCE, Patience
from qmon.migration.phases import Phase, Stand
from qmon.migration.progress import Progress, how_verified
from qmon.migration.source.bitmaps import MovingBitmaps
from qmon.migration.source.context import Context
from qmon.migration.source.convergence import Convergence
from qmon.migration.source.disks import Disks
from qmon.migration.source.errors import LinkError
from qmon.migration.source.forwarding import Forwarding
from qmon.migration.source.guests import Guests
from qmon.migration.source.handover import Handover, doubt
from qmon.migration.source.link import Link
from qmon.migration.source.observer import Observer
from qmon.migration.source.opening import Route
from qmon.migration.source.options import Hooks, Options
from qmon.migration.source.orders import Orders
from qmon.migration.source.records import Records
from qmon.migration.source.recovery import Recovery
from qmon.migration.source.resumption import Resumption
from qmon.migration.source.sender import Sender
from qmon.migration.source.setup import Setup
from qmon.migration.source.shared import SharedDisks
from qmon.migration.source.steps import BY_OPERATOR, Steps
from qmon.migration.source.switchover import Switchover
from qmon.migration.states import Action, Event
from qmon.migration.timeline import Mark
from qmon.migration.wire.offer import Mode
from qmon.transitions import InvalidTransitionError

log = logging.getLogger("qmon.migration")

RESTARTED = "this side was restarted"

_MAY_PAUSE = (Phase.ACTIVE, Phase.PRE_SWITCHOVER, Phase.SWITCHOVER, Phase.RECOVER)


class Source:
    """A migration by ``route``. The loop makes and calls it; it works on threads of its own.

    Every public call except ``resolve`` and ``leave`` returns at once.
    """

    def __init__(
        self,
        route: Route,
        options: Options,
        drives: Sequence[MigratingDrive],
        parameters: Parameters,
        journal: Journal,
        hooks: Hooks,
        entry: Entry | None = None,
        patience: Patience = PATIENCE,
    ) -> None:
        """``entry`` is a journal record found at the start: the migration continues from its state."""
        self.id = uuid4() if entry is None else entry.id
        phase = Phase.NONE if entry is None else entry.stand.phase
        self._on_phase = hooks.on_phase
        self._mode = options.mode
        self._wants_recovery = options.wants_recovery
        self._steps = Steps(lambda action: self._actions[action](), self._changed, phase)
        disks = self._disks = Disks(drives)
        self.progress = (
            Progress()
            if entry is None
            else Progress.from_record(entry.written, is_over=not phase.is_under_way)
        )
        self.observer = Observer(
            parameters,
            self.progress,
            copies=lambda: disks.copies,
            in_flight=lambda: self._sender.in_flight,
            is_copying=lambda: self.phase is Phase.ACTIVE,
            tell=hooks.on_stuck,
            seconds=patience.gain,
            regulate=lambda: self._guests.look(),
        )
        self._sender = Sender(
            parameters,
            self.progress,
            check=self._steps.check,
            unsent=lambda: disks.remaining,
            is_limited=lambda: self.phase is Phase.ACTIVE,
            observe=self.observer.note,
            sign_seconds=patience.sign,
        )
        self._guests = Guests(
            parameters,
            self.progress,
            lambda: disks.copies,
            self._sender,
            is_held_back=options.auto_converge,
        )
        context = Context(
            self.id, options, parameters, patience, disks, self._sender, self._steps, self.progress
        )
        self._orders = Orders(route)
        self._recovery = Recovery(entry)
        self._records = Records(
            journal, self.id, options.mode, disks.drives, self._orders, self._recovery, entry
        )
        self._bitmaps = MovingBitmaps(options.bitmaps)
        self._setup = Setup(context, self._orders, self._recovery)
        self._resumption = Resumption(context, self._orders, self._recovery, self._records)
        self._convergence = Convergence(context, self.observer, self._bitmaps)
        self._switchover = Switchover(context, hooks.is_running)
        self.forwarding = Forwarding(
            disks.drives, self.peer, hooks.clients if options.forward else None, hooks.on_forwarded
        )
        self._handover = Handover(
            context,
            self._orders,
            self._finish,
            decide=lambda takes_requests: self.forwarding.decide(may=takes_requests),
        )
        self._actions = self._all_actions()
        if phase is Phase.DOUBT:
            self.progress.error = doubt("this side was restarted before an answer arrived")
        if phase is Phase.PAUSED:
            self.progress.error = RESTARTED
        self._thread = threading.Thread(target=self._run, name="migration-source", daemon=True)

    def _all_actions(self) -> dict[Action, Callable[[], None]]:
        """Return what the actions of the state table are here. They raise OSError or QmonError."""
        record, is_shared = self._records.write, self._mode is Mode.SHARED
        return {
            Action.CLOSE_GATES: self._switchover.close_gates,
            Action.OPEN_GATES: self._disks.open_gates,
            Action.LET_GO: self._let_go,
            Action.LET_GO_SHARED: self._let_go if is_shared else self._guests.stop,
            Action.TAKE_BACK: self._take_back,
            Action.RETAKE: partial(self._take_back, stay_tracked=True),
            Action.RECORD_COPYING: self._records.write_copying,
            Action.RECORD_GONE: partial(record, Stand.GONE),
            Action.RECORD_UNCONFIRMED: partial(record, Stand.UNCONFIRMED),
            Action.RECORD_MOVED: partial(record, Stand.MOVED),
            Action.FORGET: self._records.forget,
            Action.SEND_GO: lambda: self._handover.send_go(self._records.digest),
            Action.SEND_HEARD: lambda: self._handover.confirm(requests_follow=self.forwarding.is_intended),
            Action.TURN_AWAY: self.forwarding.turn_away,
            Action.FORWARD: self._forward,
        }

    @property
    def phase(self) -> Phase:
        return self._steps.phase

    @property
    def has_tls(self) -> bool:
        """Whether the migration has begun, or was resumed, over TLS."""
        return self._orders.route.has_tls

    @property
    def peer(self) -> str:
        """The destination's address as it was given."""
        return self._orders.route.transport.uri

    @property
    def can_resume(self) -> bool:
        """Whether a broken line, or the end of this process, only pauses the migration."""
        return self._recovery.is_agreed and (self.phase is Phase.PAUSED or self._steps.may_break)

    # Orders, from any thread.

    def start(self) -> None:
        """Begin; or, if a restart has found doubt, continue to ask. Raises OSError."""
        if self.phase is Phase.NONE:
            self._steps.step(Event.START)
        try:
            start_thread(self._thread)
        except OSError as error:
            if self.phase in (Phase.DOUBT, Phase.PAUSED):
                raise
            self._end(reason(error))

    def cancel(self) -> None:
        """Cancel, if GO has not been sent. Does nothing if the migration has ended.

        Raises CommandError after GO.
        """
        if self._steps.try_step(Event.CANCEL):
            self._sender.abort()
            self._orders.end()
        elif self.phase.is_under_way and self.phase is not Phase.CANCELLING:
            raise CommandError(
                "The migration can't be cancelled any more: the destination has been told to run"
            )

    def go_on(self) -> None:
        """End the pause at the switchover."""
        self._switchover.go_on()

    def pause(self) -> None:
        """Close the line, and keep what both sides have. Raises CommandError if that is not possible."""
        if not self._recovery.is_agreed or self.phase not in _MAY_PAUSE:
            raise CommandError(NOT_PAUSABLE)
        self._steps.is_to_pause = True
        self._sender.abort()

    def resume(self, route: Route) -> None:
        """Let a paused migration go on by a route; in doubt, ask there from now on.

        Raises CommandError if it is neither paused nor in doubt.
        """
        if self.phase is Phase.DOUBT:
            self._orders.route = route
            return
        if not self._steps.try_step(Event.RESUME):
            raise CommandError("Cannot resume if there is no paused migration")
        self._steps.is_to_pause = False
        self._orders.go_on(route)

    def resolve(self, event: Event) -> None:
        """Decide by KEEP or RELEASE which side has the disks. Blocks.

        Raises CommandError if there is nothing to decide; also the error that keeps this side from opening
        the disks.
        """
        if event is Event.KEEP:
            self.forwarding.stop("this side keeps the disks")
        self.progress.is_kept, before = event is Event.KEEP, self.progress.is_kept  # the step reports its end
        try:
            self._steps.step(event)
        except InvalidTransitionError:
            self.progress.is_kept = before
            raise CommandError(f"There is nothing to resolve: the migration is {self.phase.status}") from None
        except (OSError, QmonError) as error:
            self.progress.is_kept = before
            raise CommandError(reason(error)) from error
        self._handover.stop()
        kept = event is Event.KEEP and self.phase is Phase.FAILED
        self.progress.error = "the operator decided that this side keeps the disks" if kept else None
        if self.phase is not Phase.CONTINUED:
            self._note_end()

    def forget(self) -> None:
        """Remove a journal record whose removal failed when the disks came back. Raises JournalError."""
        if self.phase in (Phase.FAILED, Phase.CANCELLED, Phase.CONTINUED):
            self._records.forget()

    def leave(self) -> None:
        """End the threads in any phase. The journal has what a restart must know. May block for a moment."""
        self.forwarding.stop("this side ends")
        self._handover.stop()
        self._orders.end()
        self._sender.abort()

    def join(self, timeout: float | None = None) -> bool:
        """Wait until the threads have ended; return whether they have."""
        if self._thread.ident is not None:
            self._thread.join(timeout)
        return not self._thread.is_alive()

    # The thread.

    def _run(self) -> None:
        try:
            if self.phase not in (Phase.DOUBT, Phase.PAUSED):
                self._attempt(self._migrate)
            while self.phase in (Phase.PAUSED, Phase.RECOVER) and self._orders.wait():
                self._attempt(self._resume)
            if self.phase is Phase.CANCELLING:  # it was paused
                self.progress.error = None
                self._finish(Event.STOPPED)
            if self.phase in (Phase.FAILED, Phase.CANCELLED) and self._may_be_kept:
                self._resumption.tell_end(self.progress.error or "the migration was cancelled at the source")
            self._handover.settle()
        except Exception:
            log.exception("the migration stopped by an internal error; its state is in the journal")
        finally:
            self._sender.close()
            self._bitmaps.end()

    @property
    def _may_be_kept(self) -> bool:
        """Whether the destination may keep what it has, and wait."""
        has_offered = self._wants_recovery and self._sender.link is not None
        return self._recovery.is_agreed or has_offered

    def _attempt(self, what: Callable[[], None]) -> None:
        try:
            with self._disks.sparing_page_cache():
                what()
        except LinkError as error:
            if not self._stand_still(reason(error)):
                self._end(reason(error))
        except (OSError, QmonError, MemoryError) as error:
            if not (self.phase is Phase.RECOVER and self._stand_still(reason(error))):
                self._end(reason(error))
        except Exception as error:
            log.exception("the migration failed by an internal error")
            self._end(f"internal error: {error!r}")

    def _migrate(self) -> None:
        link = self._setup.run()
        self._go_active(link)
        self._setup.open_channels()
        self._copy(link)

    def _resume(self) -> None:
        link = self._resumption.run()
        self._go_active(link)
        self._copy(link)

    def _go_active(self, link: Link) -> None:
        self._guests.begin(link)
        self._steps.advance(Event.AGREED)

    def _copy(self, link: Link) -> None:
        """Copy until the destination is PREPARED, then send GO."""
        convergence, records = self._convergence, self._records
        self._bitmaps.begin()
        shared = None
        if self._mode is Mode.SHARED:
            shared = SharedDisks(self._disks.drives, self._sender, link, random.Random(self.id.int))
            shared.prove(convergence.flush_while_running)
        convergence.reach(link)
        while (prepared := self._switchover.attempt(link, convergence, shared)) is None:
            convergence.reach(link)
        records.digest, records.was_running = prepared.digest, prepared.running
        if not link.is_one_way:
            self.progress.compared = self._sender.writer.chains.compared
        self._sender.end_channels()
        self._steps.advance(Event.WRITTEN if link.is_one_way else Event.PREPARED)
        link.check()  # the journal's write took time, and the connection may be lost
        # The point of no return: a cancel takes effect before this step or not at all.
        self._steps.advance(Event.ORDER if link.is_one_way else Event.GO)

    def _stand_still(self, why: str) -> bool:
        """Pause after the line was lost, and return whether that is possible in this phase."""
        recovery, steps = self._recovery, self._steps
        if not recovery.is_agreed or not steps.may_break or steps.failure is not None:
            return False
        if self.phase is not Phase.RECOVER:
            recovery.lost = self._sender.unconfirmed
        if self._sender.link is not None:
            self._sender.link.close()
        self._guests.stop()
        self.progress.error = BY_OPERATOR if steps.is_to_pause else why
        self.progress.gates_closed = None
        try:
            if not steps.try_step(Event.BREAK):
                return False
        except (OSError, QmonError, MemoryError) as error:
            self._end(reason(error))  # the disks did not come back
            return True
        log.warning("migration paused: %s", self.progress.error, extra=TOLD_BY_EVENT)
        return True

    # Transitions.

    def _changed(self, phase: Phase) -> None:
        self.progress.timeline.mark(Mark.STATE, phase.value)
        self._on_phase(phase)

    def _let_go(self) -> None:
        self._guests.stop()
        self._disks.let_go()

    def _take_back(self, *, stay_tracked: bool = False) -> None:
        self._guests.stop()
        self._disks.take_back(stay_tracked=stay_tracked)

    def _forward(self) -> None:
        if self._sender.link is not None:
            self.forwarding.begin(self._sender.link)

    def _finish(self, event: Event) -> None:
        """Make the last transition. Its errors are reported; the disks are not used any more."""
        self._note_end()
        if event is Event.RUNNING:
            self.progress.verified = how_verified(shared=self._mode is Mode.SHARED)
        try:
            self._steps.step(event)
        except (OSError, QmonError, MemoryError) as error:
            self.progress.error = "; then ".join(filter(None, (self.progress.error, reason(error))))
            log.error("migration: %s", self.progress.error)
        if event is Event.RUNNING:
            self.forwarding.give_up_unless_active()

    def _note_end(self) -> None:
        self.progress.ended = time.monotonic()
        if self.progress.gates_closed is not None:
            self.progress.downtime = self.progress.ended - self.progress.gates_closed

    def _end(self, why: str) -> None:
        """Handle an error: before GO the machine runs on here, after GO the source asks again."""
        if self.phase in (Phase.GONE, Phase.ORDERED):
            self._handover.lose(why)
            return
        if self.phase is not Phase.CANCELLING:
            self.progress.error = self._steps.failure or why  # the reason why it closed the connection
        self._finish(Event.FAIL)

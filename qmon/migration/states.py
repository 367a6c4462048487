"""The states of a migration: both sides' transitions as tables, and the one thing that moves along them.

Three rules. A phase changes only by ``StateMachine.step``, ``step`` knows only what the tables say, and what
a transition makes a side do is in its row, in order: the tables are the handover, and can be checked alone.

Before the first byte of GO a source may fail or be cancelled, which means that it runs on; from GO on it
leaves its disks alone until it has heard RUNNING or REFUSED, or somebody has decided for it. A destination
that is PREPARED runs on GO only. Both write down what a restart must not forget before the other side can
hear of it.

A switchover that takes too long is given up before GO: the source's guests go on, and so does the copy. A
destination that was PREPARED is told so (BACK), and its record goes before its disks are touched again.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from qmon.migration.phases import Phase


class Event(enum.Enum):
    """What moves a side on: a message that came, an order, or a failure."""

    START = enum.auto()
    """A source is told to migrate; a destination has got a hello that fits."""
    AGREED = enum.auto()
    CONVERGED = enum.auto()
    PAUSE = enum.auto()
    """As CONVERGED, where somebody is to say when the switchover may go on."""
    CONTINUE = enum.auto()
    FINISHED = enum.auto()
    """The destination has got everything, and its digest is the source's."""
    PREPARED = enum.auto()
    OVERDUE = enum.auto()
    """The guests have stood still for too long: the source goes back to copying."""
    BACK = enum.auto()
    """The source has gone back to copying behind FINISH: what it said there holds no more."""
    GO = enum.auto()
    RUNNING = enum.auto()
    HEARD = enum.auto()
    """The source has recorded that the destination runs."""
    REFUSED = enum.auto()
    LOST = enum.auto()
    RECONNECTED = enum.auto()
    FAIL = enum.auto()
    CANCEL = enum.auto()
    STOPPED = enum.auto()
    KEEP = enum.auto()
    """The operator decides that the disks are this side's."""
    RELEASE = enum.auto()
    """The operator decides that the disks are the other side's."""
    END = enum.auto()
    """The process ends in good order."""


class Action(enum.Enum):
    """What a side does at a transition."""

    # The source's.
    CLOSE_GATES = enum.auto()
    """Hold the guests' requests; those inside finish."""
    OPEN_GATES = enum.auto()
    """Let the guests' requests in again; the images are still open, and what is written is marked."""
    LET_GO = enum.auto()
    """Close the images and give up their locks."""
    RECORD_GONE = enum.auto()
    SEND_GO = enum.auto()
    TAKE_BACK = enum.auto()
    """Open the images, let requests in: the machine goes on here."""
    TURN_AWAY = enum.auto()
    """Answer requests with ESHUTDOWN from now on."""
    RECORD_MOVED = enum.auto()
    SEND_HEARD = enum.auto()
    FORGET = enum.auto()
    """Take the record away: a restart runs."""
    # The destination's.
    LOCK = enum.auto()
    """Open the images and lock them, as far as that has not been done."""
    GIVE_UP = enum.auto()
    """Close the images; what they hold is partial, or is not to be used here."""
    FLUSH = enum.auto()
    RECORD_PREPARED = enum.auto()
    SEND_PREPARED = enum.auto()
    SEND_BACK = enum.auto()
    """Say that no PREPARED holds that was said before."""
    RECORD_RUNNING = enum.auto()
    RUN = enum.auto()
    SEND_RUNNING = enum.auto()
    RECORD_SETTLED = enum.auto()
    RECORD_ENDED = enum.auto()
    RECORD_REFUSED = enum.auto()
    SEND_REFUSED = enum.auto()


@dataclass(frozen=True, slots=True)
class Row:
    """A transition: where it leads, and what is done on the way there, in order."""

    to: Phase
    actions: tuple[Action, ...] = ()


Table = Mapping[Phase, Mapping[Event, Row]]

_START = {Event.START: Row(Phase.SETUP)}
# The record goes first: a restart that found it would have the other side run, after writes made here.
_HERE_AGAIN = Row(Phase.FAILED, (Action.FORGET, Action.TAKE_BACK))
_CANCELLED = Row(Phase.CANCELLED, (Action.FORGET, Action.TAKE_BACK))
_BEFORE_GO = {Event.FAIL: _HERE_AGAIN, Event.LOST: _HERE_AGAIN, Event.CANCEL: Row(Phase.CANCELLING)}
_MOVED = (Action.TURN_AWAY, Action.RECORD_MOVED)
_COPY_ON = Row(Phase.ACTIVE, (Action.OPEN_GATES,))

SOURCE: Table = {
    Phase.NONE: _START,
    Phase.SETUP: {Event.AGREED: Row(Phase.ACTIVE), **_BEFORE_GO},
    Phase.ACTIVE: {
        Event.CONVERGED: Row(Phase.SWITCHOVER, (Action.CLOSE_GATES,)),
        Event.PAUSE: Row(Phase.PRE_SWITCHOVER, (Action.CLOSE_GATES,)),
        **_BEFORE_GO,
    },
    # The pause is for whoever asked for it to end. What is overdue here is a request inside a gate.
    Phase.PRE_SWITCHOVER: {
        Event.CONTINUE: Row(Phase.SWITCHOVER),
        Event.OVERDUE: _COPY_ON,
        **_BEFORE_GO,
    },
    # A restart must know that GO may have been sent before it can have been.
    Phase.SWITCHOVER: {
        Event.PREPARED: Row(Phase.PREPARED, (Action.LET_GO, Action.RECORD_GONE)),
        Event.OVERDUE: _COPY_ON,
        **_BEFORE_GO,
    },
    # The point of no return.
    Phase.PREPARED: {Event.GO: Row(Phase.GONE, (Action.SEND_GO,)), **_BEFORE_GO},
    Phase.GONE: {
        Event.RUNNING: Row(Phase.COMPLETED, (*_MOVED, Action.SEND_HEARD)),
        Event.REFUSED: _HERE_AGAIN,
        Event.LOST: Row(Phase.DOUBT),
    },
    Phase.DOUBT: {
        Event.RECONNECTED: Row(Phase.GONE, (Action.SEND_GO,)),
        Event.KEEP: _HERE_AGAIN,
        Event.RELEASE: Row(Phase.COMPLETED, _MOVED),
    },
    Phase.CANCELLING: {Event.STOPPED: _CANCELLED, Event.FAIL: _CANCELLED, Event.LOST: _CANCELLED},
    Phase.COMPLETED: {Event.KEEP: _HERE_AGAIN},
    Phase.FAILED: _START,
    Phase.CANCELLED: _START,
}

_PARTIAL = Row(Phase.FAILED, (Action.GIVE_UP,))
_NEVER = Row(Phase.FAILED, (Action.RECORD_REFUSED, Action.GIVE_UP))
_TAKE_OVER = Row(Phase.GONE, (Action.LOCK, Action.RECORD_RUNNING))
_BEFORE_PREPARED = {Event.FAIL: _PARTIAL, Event.LOST: _PARTIAL}

DESTINATION: Table = {
    Phase.NONE: _START,
    Phase.SETUP: {Event.AGREED: Row(Phase.ACTIVE, (Action.LOCK,)), **_BEFORE_PREPARED},
    Phase.ACTIVE: {
        Event.FINISHED: Row(Phase.PREPARED, (Action.FLUSH, Action.RECORD_PREPARED, Action.SEND_PREPARED)),
        **_BEFORE_PREPARED,
    },
    Phase.PREPARED: {
        Event.GO: _TAKE_OVER,
        # From here on the disks are neither what they were nor whole: a restart must not take them for that.
        Event.BACK: Row(Phase.ACTIVE, (Action.RECORD_REFUSED, Action.SEND_BACK)),
        # The source may be gone for good, or come back with GO: this side waits either way.
        Event.LOST: Row(Phase.PREPARED),
        # Another migration takes the place of this one, which is refused from now on.
        Event.START: Row(Phase.SETUP, (Action.RECORD_REFUSED,)),
        # It was never said, or could not be: the source gets no GO out of this.
        Event.FAIL: _NEVER,
        Event.KEEP: _TAKE_OVER,
        Event.RELEASE: _NEVER,
    },
    Phase.GONE: {
        Event.RUNNING: Row(Phase.COMPLETED, (Action.RUN, Action.SEND_RUNNING)),
        Event.REFUSED: Row(Phase.FAILED, (Action.RECORD_REFUSED, Action.GIVE_UP, Action.SEND_REFUSED)),
    },
    # Until the source knows, a restart must be able to say that this side ran, also after it has ended.
    Phase.COMPLETED: {
        Event.GO: Row(Phase.COMPLETED, (Action.SEND_RUNNING,)),
        Event.HEARD: Row(Phase.SETTLED, (Action.RECORD_SETTLED,)),
    },
    Phase.SETTLED: {
        Event.GO: Row(Phase.SETTLED, (Action.SEND_RUNNING,)),
        Event.HEARD: Row(Phase.SETTLED),
        Event.END: Row(Phase.SETTLED, (Action.RECORD_ENDED,)),
    },
    # A refusal is never said before it is recorded, nor is the disk touched again: the record before may
    # still say that a restart runs with it.
    Phase.FAILED: {
        Event.START: Row(Phase.SETUP, (Action.RECORD_REFUSED,)),
        Event.GO: Row(Phase.FAILED, (Action.RECORD_REFUSED, Action.SEND_REFUSED)),
    },
}


class InvalidTransitionError(Exception):
    """The table has no such event in this phase."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{event.name} is not possible in phase '{phase.value}'")
        self.phase = phase
        self.event = event


class StateMachine:
    """One side's phase. Thread-safe; ``on_change`` is called on the thread that steps, in order.

    ``do`` carries out an action. What it raises leaves the side in the new phase, the actions behind it
    undone: the caller goes on from there by the event for the failure, and where there is none, at an end, it
    is told of all the same.
    """

    def __init__(
        self,
        table: Table,
        do: Callable[[Action], None],
        on_change: Callable[[Phase], None] = lambda phase: None,
        phase: Phase = Phase.NONE,
    ) -> None:
        self._table = table
        self._do = do
        self._on_change = on_change
        self._phase = phase
        self._lock = threading.Lock()

    @property
    def phase(self) -> Phase:
        return self._phase

    def step(self, event: Event) -> Phase:
        """Move on, do what the row says, and return the new phase.

        Raises InvalidTransitionError, and stays, or what an action raised.
        """
        with self._lock:
            row = self._table[self._phase].get(event)
            if row is None:
                raise InvalidTransitionError(self._phase, event)
            self._phase = row.to
        try:
            for action in row.actions:
                self._do(action)
        except BaseException:
            if not row.to.is_under_way:
                self._on_change(row.to)
            raise
        self._on_change(row.to)
        return row.to

    def try_step(self, event: Event) -> bool:
        """Move on if the table knows the event here; say whether it did. Raises what an action raised."""
        try:
            self.step(event)
        except InvalidTransitionError:
            return False
        return True

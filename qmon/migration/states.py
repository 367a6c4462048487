"""The states of a migration: both sides' transitions as tables, and the machine that follows them.

Three rules. A phase changes only in ``StateMachine.step``. ``step`` knows only the tables. A row of a table
lists the actions of its transition, in order. So the tables are the whole handover and can be checked alone.

Before the first byte of GO a source may fail or be cancelled; then it continues to run. From GO on it does
not touch its disks until it has received RUNNING or REFUSED, or an operator has decided. A destination that
is PREPARED runs only when GO arrives. Each side records what a restart must know before it tells the other.

A switchover that takes too long is abandoned before GO: the source's guests continue, and so does the copy.
A PREPARED destination is told so (BACK); it changes its record before it touches the disks again.

If both sides have agreed on it, a broken line before GO pauses the migration instead of ending it (BREAK):
the source's guests run, both sides keep what they have, and an operator resumes it. Both record before the
first byte that it can be resumed, so that a killed process waits after its restart, too.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable

from qmon import transitions
from qmon.migration.phases import Phase


class Event(enum.Enum):
    """What causes a transition: a message from the other side, an operator's command, or a failure."""

    START = enum.auto()
    """Source: the migrate command. Destination: it has received a HELLO that fits."""
    AGREED = enum.auto()
    ACCEPTED = enum.auto()
    """Destination: the images are ready for the source's data."""
    CONVERGED = enum.auto()
    PAUSE = enum.auto()
    """As CONVERGED, but the switchover then waits for CONTINUE."""
    CONTINUE = enum.auto()
    FINISHED = enum.auto()
    """The destination has received everything, and its digest equals the source's."""
    PREPARED = enum.auto()
    WRITTEN = enum.auto()
    """Everything was sent, FINISH included, to something that can't answer."""
    ORDER = enum.auto()
    """GO goes there."""
    UNCONFIRMED = enum.auto()
    """GO has gone there, and nothing has failed."""
    UNSURE = enum.auto()
    """GO may have gone there, but it has failed."""
    OVERDUE = enum.auto()
    """The guests were paused for too long: the source goes back to copying."""
    BACK = enum.auto()
    """The source has gone back to copying after it sent FINISH, and takes FINISH back."""
    GO = enum.auto()
    RUNNING = enum.auto()
    HEARD = enum.auto()
    """The source has recorded that the destination runs."""
    REFUSED = enum.auto()
    LOST = enum.auto()
    BREAK = enum.auto()
    """The line is lost or closed by an operator, and both sides agreed to keep what they have."""
    RESUME = enum.auto()
    """Source: the operator's migrate -r. Destination: the source is connected again, and is the right one."""
    RECONNECTED = enum.auto()
    FAIL = enum.auto()
    CANCEL = enum.auto()
    STOPPED = enum.auto()
    KEEP = enum.auto()
    """The operator decides that this side keeps the disks."""
    RELEASE = enum.auto()
    """The operator decides that the other side has the disks."""
    END = enum.auto()
    """The process ends properly."""


class Action(enum.Enum):
    """What a side does in a transition."""

    # The source's actions.
    CLOSE_GATES = enum.auto()
    """Hold the guests' new requests; those inside the gates finish."""
    OPEN_GATES = enum.auto()
    """Admit the guests' requests again; the images are still open, and the dirty maps mark writes."""
    LET_GO = enum.auto()
    """Close the images and release their locks."""
    LET_GO_SHARED = enum.auto()
    """As LET_GO, for shared images only: others stay with this side."""
    RECORD_GONE = enum.auto()
    RECORD_UNCONFIRMED = enum.auto()
    SEND_GO = enum.auto()
    TAKE_BACK = enum.auto()
    """Open the images and admit requests: the machine continues here."""
    RECORD_COPYING = enum.auto()
    """Record that the migration can be resumed, if both sides agreed on it."""
    RETAKE = enum.auto()
    """As TAKE_BACK, but the dirty maps go on marking writes."""
    TURN_AWAY = enum.auto()
    """Answer requests with ESHUTDOWN from now on, unless they are to be forwarded."""
    FORWARD = enum.auto()
    """Send the requests of the connected clients to the destination, if both sides want that."""
    RECORD_MOVED = enum.auto()
    SEND_HEARD = enum.auto()
    FORGET = enum.auto()
    """Remove the record: after a restart the machine runs."""
    # The destination's actions.
    LOCK = enum.auto()
    """Open and lock the images that are not open yet."""
    GIVE_UP = enum.auto()
    """Close the images: they are incomplete, or must not be used here."""
    FLUSH = enum.auto()
    RECORD_PARTIAL = enum.auto()
    """Record that the migration can be resumed, if both sides agreed on it."""
    RECORD_BACK = enum.auto()
    """Record that the images are not complete any more: as RECORD_PARTIAL, else as RECORD_REFUSED."""
    FORGET_PARTIAL = enum.auto()
    """Remove the record that the migration can be resumed."""
    RECORD_PREPARED = enum.auto()
    SEND_PREPARED = enum.auto()
    SEND_BACK = enum.auto()
    """Tell the source that earlier PREPARED answers are withdrawn."""
    RECORD_RUNNING = enum.auto()
    RUN = enum.auto()
    SEND_RUNNING = enum.auto()
    RECORD_SETTLED = enum.auto()
    RECORD_ENDED = enum.auto()
    RECORD_REFUSED = enum.auto()
    SEND_REFUSED = enum.auto()


Row = transitions.Row[Phase, Action]
"""A transition: the next phase, and the actions in order."""
Table = transitions.Table[Phase, Event, Action]

_START = {Event.START: Row(Phase.SETUP)}
# FORGET comes first: a restart that found the record would let the other side run, after writes made here.
_HERE_AGAIN = Row(Phase.FAILED, (Action.FORGET, Action.TAKE_BACK))
_CANCELLED = Row(Phase.CANCELLED, (Action.FORGET, Action.TAKE_BACK))
_BEFORE_GO = {Event.FAIL: _HERE_AGAIN, Event.LOST: _HERE_AGAIN, Event.CANCEL: Row(Phase.CANCELLING)}
_MOVED = (Action.TURN_AWAY, Action.RECORD_MOVED)
_COPY_ON = Row(Phase.ACTIVE, (Action.OPEN_GATES,))
_STANDS_STILL = Row(Phase.PAUSED, (Action.OPEN_GATES,))

SOURCE: Table = {
    Phase.NONE: _START,
    Phase.SETUP: {Event.AGREED: Row(Phase.ACTIVE, (Action.RECORD_COPYING,)), **_BEFORE_GO},
    Phase.PAUSED: {Event.RESUME: Row(Phase.RECOVER), **_BEFORE_GO},
    Phase.RECOVER: {Event.AGREED: Row(Phase.ACTIVE), Event.BREAK: Row(Phase.PAUSED), **_BEFORE_GO},
    Phase.ACTIVE: {
        Event.BREAK: Row(Phase.PAUSED),
        Event.CONVERGED: Row(Phase.SWITCHOVER, (Action.CLOSE_GATES,)),
        Event.PAUSE: Row(Phase.PRE_SWITCHOVER, (Action.CLOSE_GATES,)),
        **_BEFORE_GO,
    },
    # The pause has no time limit. OVERDUE here means that a request inside a gate did not finish.
    Phase.PRE_SWITCHOVER: {
        Event.CONTINUE: Row(Phase.SWITCHOVER),
        Event.OVERDUE: _COPY_ON,
        Event.BREAK: _STANDS_STILL,
        **_BEFORE_GO,
    },
    # The record precedes GO, so that a restart knows that GO may have been sent.
    Phase.SWITCHOVER: {
        Event.PREPARED: Row(Phase.PREPARED, (Action.LET_GO, Action.RECORD_GONE)),
        Event.WRITTEN: Row(Phase.WRITTEN, (Action.LET_GO_SHARED, Action.RECORD_UNCONFIRMED)),
        Event.OVERDUE: _COPY_ON,
        Event.BREAK: _STANDS_STILL,
        **_BEFORE_GO,
    },
    # The point of no return.
    Phase.PREPARED: {
        Event.GO: Row(Phase.GONE, (Action.SEND_GO,)),
        # The record of GO is replaced first, as by FORGET: the guests will write.
        Event.BREAK: Row(Phase.PAUSED, (Action.RECORD_COPYING, Action.RETAKE)),
        **_BEFORE_GO,
    },
    Phase.GONE: {
        Event.RUNNING: Row(Phase.COMPLETED, (*_MOVED, Action.SEND_HEARD, Action.FORWARD)),
        Event.REFUSED: _HERE_AGAIN,
        Event.LOST: Row(Phase.DOUBT),
    },
    # The same with something that can't answer. REFUSED is that GO has reached nobody for certain.
    Phase.WRITTEN: {Event.ORDER: Row(Phase.ORDERED, (Action.SEND_GO,)), **_BEFORE_GO},
    Phase.ORDERED: {
        Event.UNCONFIRMED: Row(Phase.UNCONFIRMED),
        Event.UNSURE: Row(Phase.ABANDONED),
        Event.REFUSED: _HERE_AGAIN,
    },
    # Nobody can be asked: the machine stays stopped with its disks until the operator decides.
    Phase.UNCONFIRMED: {
        Event.KEEP: Row(Phase.CONTINUED, (Action.FORGET, Action.TAKE_BACK)),
        Event.RELEASE: Row(Phase.COMPLETED, (Action.LET_GO, *_MOVED)),
    },
    Phase.ABANDONED: {Event.KEEP: _HERE_AGAIN, Event.RELEASE: Row(Phase.COMPLETED, (Action.LET_GO, *_MOVED))},
    Phase.DOUBT: {
        Event.RECONNECTED: Row(Phase.GONE, (Action.SEND_GO,)),
        Event.KEEP: _HERE_AGAIN,
        Event.RELEASE: Row(Phase.COMPLETED, _MOVED),
    },
    Phase.CANCELLING: {Event.STOPPED: _CANCELLED, Event.FAIL: _CANCELLED, Event.LOST: _CANCELLED},
    Phase.COMPLETED: {Event.KEEP: _HERE_AGAIN},
    Phase.CONTINUED: _START,
    Phase.FAILED: _START,
    Phase.CANCELLED: _START,
}

_PARTIAL = Row(Phase.FAILED, (Action.GIVE_UP, Action.FORGET_PARTIAL))
_NEVER = Row(Phase.FAILED, (Action.RECORD_REFUSED, Action.GIVE_UP))
_TAKE_OVER = Row(Phase.GONE, (Action.LOCK, Action.RECORD_RUNNING))
_BEFORE_PREPARED = {Event.FAIL: _PARTIAL, Event.LOST: _PARTIAL}

DESTINATION: Table = {
    Phase.NONE: _START,
    Phase.SETUP: {Event.AGREED: Row(Phase.ACTIVE, (Action.LOCK,)), **_BEFORE_PREPARED},
    Phase.ACTIVE: {
        Event.ACCEPTED: Row(Phase.ACTIVE, (Action.RECORD_PARTIAL,)),
        Event.BREAK: Row(Phase.PAUSED),
        Event.FINISHED: Row(Phase.PREPARED, (Action.FLUSH, Action.RECORD_PREPARED, Action.SEND_PREPARED)),
        **_BEFORE_PREPARED,
    },
    # The number of the line is in the record.
    Phase.PAUSED: {Event.RESUME: Row(Phase.RECOVER, (Action.RECORD_PARTIAL,)), **_BEFORE_PREPARED},
    Phase.RECOVER: {Event.AGREED: Row(Phase.ACTIVE), Event.BREAK: Row(Phase.PAUSED), **_BEFORE_PREPARED},
    Phase.PREPARED: {
        Event.GO: _TAKE_OVER,
        # The next data make the disks incomplete: a restart must not find them recorded as PREPARED.
        Event.BACK: Row(Phase.ACTIVE, (Action.RECORD_BACK, Action.SEND_BACK)),
        # The source has not sent GO: it was before that when the line broke.
        Event.RESUME: Row(Phase.RECOVER, (Action.RECORD_PARTIAL,)),
        # The source may have died, or may reconnect and send GO: this side waits in both cases.
        Event.LOST: Row(Phase.PREPARED),
        # Another migration replaces this one, which is refused from now on.
        Event.START: Row(Phase.SETUP, (Action.RECORD_REFUSED,)),
        # PREPARED was not sent, so the source can't send GO.
        Event.FAIL: _NEVER,
        Event.KEEP: _TAKE_OVER,
        Event.RELEASE: _NEVER,
    },
    Phase.GONE: {
        Event.RUNNING: Row(Phase.COMPLETED, (Action.RUN, Action.SEND_RUNNING)),
        Event.REFUSED: Row(Phase.FAILED, (Action.RECORD_REFUSED, Action.GIVE_UP, Action.SEND_REFUSED)),
    },
    # Until the source knows that this side ran, a restart must be able to say so, even after the end.
    Phase.COMPLETED: {
        Event.GO: Row(Phase.COMPLETED, (Action.SEND_RUNNING,)),
        Event.HEARD: Row(Phase.SETTLED, (Action.RECORD_SETTLED,)),
    },
    Phase.SETTLED: {
        Event.GO: Row(Phase.SETTLED, (Action.SEND_RUNNING,)),
        Event.HEARD: Row(Phase.SETTLED),
        Event.END: Row(Phase.SETTLED, (Action.RECORD_ENDED,)),
    },
    # A refusal is recorded before it is sent and before the disks are touched: with the earlier record a
    # restart might still run.
    Phase.FAILED: {
        Event.START: Row(Phase.SETUP, (Action.RECORD_REFUSED,)),
        Event.GO: Row(Phase.FAILED, (Action.RECORD_REFUSED, Action.SEND_REFUSED)),
    },
}


class StateMachine:
    """One side's phase. Thread-safe; ``on_change`` is called on the thread that steps, in order.

    ``do`` carries out an action. If it raises, the side is in the new phase and the remaining actions are
    not done. The caller then steps with the event for the failure. A final phase has no such event:
    ``on_change`` is called for it even after a failure.
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
        """Make the transition for an event, do its actions, and return the new phase.

        Raises InvalidTransitionError, and stays in the phase, or the exception of an action.
        """
        with self._lock:
            row = transitions.row(self._table, self._phase, event)
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
        """As ``step``, but return False if the event has no transition in this phase."""
        try:
            self.step(event)
        except transitions.InvalidTransitionError:
            return False
        return True

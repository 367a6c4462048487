"""The states of a migration between two QEMUs: both sides' transitions as tables, and what follows them.

A phase changes only in ``StateMachine.step``, which knows only the tables. A row lists the actions of its
transition, in order. So the tables are the whole handover, and can be checked alone.

Three rules keep two guests from running, and bring one back wherever that is possible:

1. A destination's QEMU is told to stop before anything arrives, and is told to run only when RUN arrives.
2. A source sends RUN only when its QEMU has said ``completed``, or has ended, so that it can't run the guest.
3. A source lets its QEMU run again after ``completed`` only when the destination has answered REFUSED.

Before ``completed`` the source may call everything off at any time, also behind ``migrate-continue``: RUN
was not sent, so the destination stands still.
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Callable

from qmon import transitions
from qmon.remote.migration.phases import Phase


class Event(enum.Enum):
    """What causes a transition."""

    # The source's events.
    START = enum.auto()
    """Source: the line. Destination: the connection of a source that fits."""
    AGREED = enum.auto()
    READY = enum.auto()
    """The disks are close enough: the memory can be sent."""
    STOPPED = enum.auto()
    """The QEMU has stopped the guest and waits in ``pre-switchover``."""
    WHOLE = enum.auto()
    """The copies of the disks have ended without an error, and the check has found no difference."""
    SENT = enum.auto()
    """The QEMU says ``completed``."""
    BACK = enum.auto()
    """The QEMU says that its migration failed or was cancelled: the guest runs there."""
    DIED = enum.auto()
    """The QEMU's process has ended."""
    RUNS = enum.auto()
    """The destination has answered that the guest runs, or ran, there."""
    REFUSED = enum.auto()
    """The destination has answered that it never ran the guest and never will."""
    RECONNECTED = enum.auto()
    UNDONE = enum.auto()
    # The destination's events.
    PREPARE = enum.auto()
    MEMORY = enum.auto()
    """The connection for the memory is there."""
    CLOSE = enum.auto()
    """The source has ended its copies: the disks are complete."""
    LOADED = enum.auto()
    """The QEMU says ``completed``, and its guest stands still."""
    BROKEN = enum.auto()
    """The QEMU could not read the memory, or its process has ended. After RUN: the guest has perhaps run."""
    RUN = enum.auto()
    STARTED = enum.auto()
    HEARD = enum.auto()
    """The source knows that the guest runs at the destination."""
    CALL_OFF = enum.auto()
    """The source has called the migration off: it keeps the guest."""
    # Both sides' events.
    LOST = enum.auto()
    """The connection between the consoles has ended, or was silent for too long."""
    FAIL = enum.auto()
    CANCEL = enum.auto()
    KEEP = enum.auto()
    """The operator decides that the guest runs on this side."""
    RELEASE = enum.auto()
    """The operator decides that the guest runs on the other side."""


class Action(enum.Enum):
    """What a side does in a transition."""

    # The source's actions.
    RECORD = enum.auto()
    """Keep in the QEMU what a new console must know."""
    GUARD = enum.auto()
    """Start the guardian, which brings the guest back if this console dies."""
    PREPARE_THERE = enum.auto()
    """Have the destination stop its QEMU and export its disks."""
    SET_UP = enum.auto()
    """Set the capabilities and parameters that the migration needs."""
    ADD_TARGETS = enum.auto()
    START_COPIES = enum.auto()
    START_MEMORY = enum.auto()
    END_COPIES = enum.auto()
    """End the mirrors, which must have no error."""
    CHECK_COPIES = enum.auto()
    REMOVE_TARGETS = enum.auto()
    CLOSE_THERE = enum.auto()
    """Have the destination end its exports."""
    UNGUARD = enum.auto()
    CONTINUE = enum.auto()
    """``migrate-continue``."""
    TAKE_BACK = enum.auto()
    """Have the QEMU give its migration up, also on a silent line: it runs the guest, or has completed."""
    SEND_RUN = enum.auto()
    RECORD_RAN = enum.auto()
    """Keep in the QEMU that the guest runs at the destination, which is then told so and forgets it."""
    SEND_HEARD = enum.auto()
    SEND_CALL_OFF = enum.auto()
    RUN_HERE = enum.auto()
    """``cont`` at the source, whose guest is known to run nowhere else."""
    UNDO = enum.auto()
    """Take back what was changed in this side's QEMU, the record last."""
    # The destination's actions.
    HOLD = enum.auto()
    """``stop``: the guest does not run by itself when it has arrived."""
    EXPORT = enum.auto()
    TAKE_MEMORY = enum.auto()
    """``migrate-incoming``."""
    CLOSE_EXPORTS = enum.auto()
    RECORD_RUN = enum.auto()
    """Keep in the QEMU that RUN has arrived, before the guest starts."""
    RUN = enum.auto()
    """``cont`` at the destination: the point of no return."""
    RECORD_REFUSED = enum.auto()
    """Keep in the QEMU that it must not run the guest, before that is said."""
    # Both sides' actions.
    TELL = enum.auto()
    """Tell the person what is not known, and who decides, unless the other side is there."""


NOT_INTERRUPTED = frozenset(
    {
        Action.GUARD,
        Action.UNGUARD,
        Action.TAKE_BACK,
        Action.SEND_RUN,
        Action.RECORD_RAN,
        Action.SEND_HEARD,
        Action.SEND_CALL_OFF,
        Action.RUN_HERE,
        Action.UNDO,
        Action.TELL,
    }
)
"""Actions of the source that no further event may end: what they do settles the matter."""


Row = transitions.Row[Phase, Action]
"""A transition: the next phase, and the actions in order."""
Table = transitions.Table[Phase, Event, Action]

_UNDO = (Action.TAKE_BACK, Action.SEND_CALL_OFF, Action.UNDO, Action.UNGUARD)
_CALLED_OFF = {
    Event.FAIL: Row(Phase.UNDOING, _UNDO),
    Event.LOST: Row(Phase.UNDOING, _UNDO),
    Event.CANCEL: Row(Phase.CANCELLING, _UNDO),
    # The guest has died with its QEMU. The disks at the source are whole.
    Event.DIED: Row(Phase.FAILED),
}
_TAKE_BACK = Row(Phase.SWITCHING, (Action.TAKE_BACK,))
_HERE_AGAIN = Row(Phase.UNDOING, (Action.RUN_HERE, Action.UNDO))

SOURCE: Table = {
    Phase.NONE: {Event.START: Row(Phase.SETUP)},
    Phase.SETUP: {
        Event.AGREED: Row(
            Phase.COPYING,
            (
                Action.GUARD,
                Action.RECORD,
                Action.PREPARE_THERE,
                Action.SET_UP,
                Action.ADD_TARGETS,
                Action.START_COPIES,
            ),
        ),
        Event.FAIL: Row(Phase.FAILED),
        Event.LOST: Row(Phase.FAILED),
        Event.CANCEL: Row(Phase.CANCELLED),
    },
    Phase.COPYING: {Event.READY: Row(Phase.MOVING, (Action.START_MEMORY,)), **_CALLED_OFF},
    Phase.MOVING: {
        Event.STOPPED: Row(
            Phase.PAUSED,
            (Action.END_COPIES, Action.CHECK_COPIES, Action.REMOVE_TARGETS, Action.CLOSE_THERE),
        ),
        Event.BACK: Row(Phase.UNDOING, _UNDO),
        **_CALLED_OFF,
    },
    Phase.PAUSED: {
        Event.WHOLE: Row(Phase.SWITCHING, (Action.RECORD, Action.CONTINUE)),
        **_CALLED_OFF,
    },
    # The QEMU decides how this ends: ``completed``, or the guest runs here again. Either can be read later.
    # A QEMU that has died had not run it again: else that is BACK, and the destination's memory is of before.
    Phase.SWITCHING: {
        Event.SENT: Row(Phase.HANDED, (Action.UNGUARD, Action.SEND_RUN)),
        Event.DIED: Row(Phase.HANDED, (Action.UNGUARD, Action.SEND_RUN)),
        Event.BACK: Row(Phase.UNDOING, (Action.SEND_CALL_OFF, Action.UNDO, Action.UNGUARD)),
        Event.LOST: _TAKE_BACK,
        Event.FAIL: _TAKE_BACK,
    },
    Phase.HANDED: {
        Event.RUNS: Row(Phase.COMPLETED, (Action.RECORD_RAN, Action.SEND_HEARD, Action.UNDO)),
        Event.REFUSED: _HERE_AGAIN,
        Event.LOST: Row(Phase.DOUBT, (Action.TELL,)),
        Event.FAIL: Row(Phase.DOUBT, (Action.TELL,)),
    },
    Phase.DOUBT: {
        Event.RECONNECTED: Row(Phase.HANDED, (Action.SEND_RUN,)),
        Event.KEEP: _HERE_AGAIN,
        Event.RELEASE: Row(Phase.COMPLETED, (Action.UNDO,)),
    },
    Phase.COMPLETED: {Event.FAIL: Row(Phase.COMPLETED, (Action.TELL,))},
    Phase.UNDOING: {
        Event.UNDONE: Row(Phase.FAILED),
        Event.FAIL: Row(Phase.FAILED, (Action.TELL,)),
        Event.DIED: Row(Phase.FAILED),
    },
    Phase.CANCELLING: {
        Event.UNDONE: Row(Phase.CANCELLED),
        Event.FAIL: Row(Phase.CANCELLED, (Action.TELL,)),
        Event.DIED: Row(Phase.FAILED),
    },
}

_NEVER = Row(Phase.REFUSED, (Action.RECORD_REFUSED, Action.CLOSE_EXPORTS))
_RUN = Row(Phase.RUNNING, (Action.RECORD_RUN, Action.RUN))
_GIVEN_UP = Row(Phase.FAILED, (Action.UNDO,))

DESTINATION: Table = {
    Phase.NONE: {Event.START: Row(Phase.SETUP)},
    Phase.SETUP: {
        Event.PREPARE: Row(Phase.COPYING, (Action.RECORD, Action.SET_UP, Action.HOLD, Action.EXPORT)),
        Event.CALL_OFF: Row(Phase.NONE),
        Event.LOST: Row(Phase.NONE),
    },
    # Until its QEMU has the memory's connection, another source may come.
    Phase.COPYING: {
        Event.MEMORY: Row(Phase.MOVING, (Action.TAKE_MEMORY,)),
        Event.CALL_OFF: _GIVEN_UP,
        Event.LOST: _GIVEN_UP,
        Event.FAIL: _GIVEN_UP,
    },
    # A lost connection changes nothing here: the QEMU sees the end of the memory's, or has it all.
    Phase.MOVING: {
        Event.CLOSE: Row(Phase.MOVING, (Action.CLOSE_EXPORTS,)),
        Event.LOADED: Row(Phase.ARRIVED, (Action.TELL, Action.RECORD)),
        Event.CALL_OFF: _NEVER,
        Event.BROKEN: _NEVER,
        Event.FAIL: _NEVER,
    },
    Phase.ARRIVED: {
        Event.RUN: _RUN,
        Event.CALL_OFF: _NEVER,
        Event.LOST: Row(Phase.ARRIVED, (Action.TELL,)),
        Event.KEEP: _RUN,
        Event.RELEASE: _NEVER,
    },
    Phase.RUNNING: {
        Event.STARTED: Row(Phase.COMPLETED, (Action.TELL, Action.RECORD)),
        # ``cont`` was not sent, or answered with an error: the guest has not run, and never will.
        Event.FAIL: _NEVER,
        # ``cont`` failed, and whether the guest has run is not known: the source's person decides.
        Event.BROKEN: Row(Phase.DOUBT),
    },
    Phase.DOUBT: {Event.RUN: _RUN},
    # Until the source knows that the guest ran here, a new console must be able to say so.
    Phase.COMPLETED: {
        Event.HEARD: Row(Phase.SETTLED, (Action.UNDO,)),
        Event.LOST: Row(Phase.COMPLETED, (Action.TELL, Action.RECORD)),
        Event.KEEP: Row(Phase.SETTLED, (Action.UNDO,)),
    },
    # What could not be recorded is not said: a new console would run the guest on RUN.
    Phase.REFUSED: {Event.RUN: Row(Phase.REFUSED, (Action.RECORD_REFUSED,))},
    Phase.FAILED: {Event.START: Row(Phase.SETUP)},
}


class StateMachine:
    """One side's phase.

    ``do`` carries out an action. If it raises, the side is in the new phase and the remaining actions are
    not done. The caller then steps with the event for the failure.
    """

    def __init__(
        self,
        table: Table,
        do: Callable[[Action], Awaitable[None]],
        on_change: Callable[[Phase], None] = lambda phase: None,
        phase: Phase = Phase.NONE,
    ) -> None:
        self._table = table
        self._do = do
        self._on_change = on_change
        self.phase = phase

    def takes(self, event: Event) -> bool:
        """Whether the table has a transition for an event in this phase."""
        return transitions.takes(self._table, self.phase, event)

    async def step(self, event: Event) -> Phase:
        """Make the transition for an event, do its actions, and return the new phase.

        Raises InvalidTransitionError, and stays in the phase, or the exception of an action.
        """
        row = transitions.row(self._table, self.phase, event)
        changed, self.phase = row.to is not self.phase, row.to
        if changed:
            self._on_change(row.to)
        for action in row.actions:
            await self._do(action)
        return self.phase

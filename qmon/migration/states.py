"""The states of a migration: both sides' transitions as tables, and the one thing that moves along them.

Two rules. A phase changes only by ``StateMachine.step``, and ``step`` knows only what the tables say.
Before the first byte of GO a source may fail or be cancelled, which means that it runs on; from GO on it
leaves its disks alone until it has heard RUNNING or REFUSED, whatever else happens.
"""

from __future__ import annotations

import enum
import threading
from collections.abc import Callable, Mapping


class Phase(enum.Enum):
    """Where a side is; finer than the status that QMP shows."""

    NONE = "none"
    SETUP = "setup"
    ACTIVE = "active"
    SWITCHOVER = "switchover"
    """The source's gates are closed, what is left is sent. The destination knows no such phase."""
    PREPARED = "prepared"
    """The destination holds every byte. It runs on GO only; the source may still go back."""
    GONE = "gone"
    """GO is on its way, or has arrived and the destination starts."""
    DOUBT = "doubt"
    """After GO the connection was lost before an answer came: nobody runs here until it is resolved."""
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLING = "cancelling"
    CANCELLED = "cancelled"


class Event(enum.Enum):
    """What moves a side on: a message that came or went, an order, or a failure."""

    START = enum.auto()
    AGREED = enum.auto()
    CONVERGED = enum.auto()
    PREPARED = enum.auto()
    GO = enum.auto()
    RUNNING = enum.auto()
    REFUSED = enum.auto()
    LOST = enum.auto()
    FAIL = enum.auto()
    CANCEL = enum.auto()
    STOPPED = enum.auto()


Table = Mapping[Phase, Mapping[Event, Phase]]

_START = {Event.START: Phase.SETUP}
_BEFORE_GO = {Event.FAIL: Phase.FAILED, Event.LOST: Phase.FAILED, Event.CANCEL: Phase.CANCELLING}

SOURCE: Table = {
    Phase.NONE: _START,
    Phase.SETUP: {Event.AGREED: Phase.ACTIVE, **_BEFORE_GO},
    Phase.ACTIVE: {Event.CONVERGED: Phase.SWITCHOVER, **_BEFORE_GO},
    Phase.SWITCHOVER: {Event.PREPARED: Phase.PREPARED, **_BEFORE_GO},
    Phase.PREPARED: {Event.GO: Phase.GONE, **_BEFORE_GO},
    Phase.GONE: {Event.RUNNING: Phase.COMPLETED, Event.REFUSED: Phase.FAILED, Event.LOST: Phase.DOUBT},
    Phase.DOUBT: {Event.RUNNING: Phase.COMPLETED, Event.REFUSED: Phase.FAILED},
    Phase.CANCELLING: {
        Event.STOPPED: Phase.CANCELLED,
        Event.FAIL: Phase.CANCELLED,
        Event.LOST: Phase.CANCELLED,
    },
    Phase.COMPLETED: _START,
    Phase.FAILED: _START,
    Phase.CANCELLED: _START,
}

DESTINATION: Table = {
    Phase.NONE: _START,
    Phase.SETUP: {Event.AGREED: Phase.ACTIVE, Event.FAIL: Phase.FAILED, Event.LOST: Phase.FAILED},
    Phase.ACTIVE: {Event.PREPARED: Phase.PREPARED, Event.FAIL: Phase.FAILED, Event.LOST: Phase.FAILED},
    Phase.PREPARED: {Event.GO: Phase.GONE, Event.FAIL: Phase.FAILED, Event.LOST: Phase.FAILED},
    Phase.GONE: {Event.RUNNING: Phase.COMPLETED, Event.REFUSED: Phase.FAILED},
    Phase.FAILED: _START,
    Phase.COMPLETED: {},
}

STATUS: Mapping[Phase, str] = {
    Phase.SWITCHOVER: "device",
    Phase.PREPARED: "device",
    Phase.GONE: "device",
    Phase.DOUBT: "device",
}
"""QMP's MigrationStatus of a phase, where it is not the phase's own name."""

ENDED = frozenset({Phase.NONE, Phase.COMPLETED, Phase.FAILED, Phase.CANCELLED})
"""Phases in which no migration is under way."""


def status_of(phase: Phase) -> str:
    """The QMP MigrationStatus that a phase is shown as."""
    return STATUS.get(phase, phase.value)


class InvalidTransitionError(Exception):
    """The table has no such event in this phase."""

    def __init__(self, phase: Phase, event: Event) -> None:
        super().__init__(f"{event.name} is not possible in phase '{phase.value}'")
        self.phase = phase
        self.event = event


class StateMachine:
    """One side's phase. Thread-safe; ``on_change`` is called on the thread that steps, in order."""

    def __init__(self, table: Table, on_change: Callable[[Phase], None] = lambda phase: None) -> None:
        self._table = table
        self._phase = Phase.NONE
        self._lock = threading.Lock()
        self._on_change = on_change

    @property
    def phase(self) -> Phase:
        return self._phase

    def step(self, event: Event) -> Phase:
        """Move on, and return the new phase. Raises InvalidTransitionError, and stays."""
        with self._lock:
            new = self._table[self._phase].get(event)
            if new is None:
                raise InvalidTransitionError(self._phase, event)
            self._phase = new
            self._on_change(new)
            return new

    def try_step(self, event: Event) -> bool:
        """Move on if the table knows the event here; say whether it did."""
        try:
            self.step(event)
        except InvalidTransitionError:
            return False
        return True

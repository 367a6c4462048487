"""Tables with one thing wrong: a row or an action is missing, actions are swapped, a phase stays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import DESTINATION, SOURCE, Event, Row, Table

TABLES = {"source": SOURCE, "destination": DESTINATION}

_NEXT_STEP = "the next step fails on a connection that is lost, or is bounded"
_NOBODY = "it is decided in a moment: the next phase takes it, too"
_SAID = "it only saves a line that asks for what a QEMU that has ended does not need"
_TWICE = "it needs two failures"
_ORDER = "nothing is done between the two that the order could spoil"
_OTHER_WAY = "the end of the connection, or what QEMU itself says, tells the other side the same"
_AGAIN = "a second migration is not in the model"
_FASTER = "it spares a wait, or keeps what is only shown"

HARMLESS = {
    "source: SETUP LOST is missing": _NEXT_STEP,
    "source: SETUP CANCEL is missing": _NOBODY,
    "source: COPYING DIED is missing": _SAID,
    "source: MOVING LOST is missing": _NEXT_STEP,
    "source: MOVING DIED is missing": _SAID,
    "source: PAUSED LOST is missing": _NEXT_STEP,
    "source: PAUSED DIED is missing": _SAID,
    "source: UNDOING FAIL is missing": _TWICE,
    "source: UNDOING DIED is missing": _SAID,
    "source: CANCELLING DIED is missing": _SAID,
    "source: SETUP AGREED with PREPARE_THERE before RECORD": _ORDER,
    "source: SETUP AGREED with SET_UP before PREPARE_THERE": _ORDER,
    "source: SETUP AGREED with ADD_TARGETS before SET_UP": _ORDER,
    "source: COPYING FAIL without SEND_CALL_OFF": _OTHER_WAY,
    "source: COPYING FAIL with SEND_CALL_OFF before TAKE_BACK": _ORDER,
    "source: COPYING FAIL with UNDO before SEND_CALL_OFF": _ORDER,
    "source: COPYING FAIL with UNGUARD before UNDO": _TWICE,
    "source: COPYING CANCEL with SEND_CALL_OFF before TAKE_BACK": _ORDER,
    "source: MOVING STOPPED with REMOVE_TARGETS before CHECK_COPIES": _ORDER,
    "source: MOVING STOPPED with CLOSE_THERE before REMOVE_TARGETS": _ORDER,
    "source: PAUSED WHOLE without RECORD": _FASTER,
    "source: PAUSED WHOLE with CONTINUE before RECORD": _FASTER,
    "source: SWITCHING SENT with SEND_RUN before UNGUARD": _ORDER,
    "source: SWITCHING BACK with UNDO before SEND_CALL_OFF": _ORDER,
    "source: SWITCHING BACK with UNGUARD before UNDO": _TWICE,
    "source: HANDED RUNS with UNDO before SEND_HEARD": _ORDER,
    "source: HANDED REFUSED with UNDO before RUN_HERE": _TWICE,
    "source: UNDOING FAIL without TELL": _TWICE,
    "source: UNDOING FAIL stays in its phase": _TWICE,
    "destination: SETUP CALL_OFF is missing": _OTHER_WAY,
    "destination: COPYING CALL_OFF is missing": _OTHER_WAY,
    "destination: COPYING FAIL is missing": _OTHER_WAY,
    "destination: MOVING FAIL is missing": _OTHER_WAY,
    "destination: ARRIVED KEEP is missing": _TWICE,
    "destination: ARRIVED RELEASE is missing": _TWICE,
    "destination: DOUBT RUN is missing": _TWICE,
    "destination: FAILED START is missing": _AGAIN,
    "destination: SETUP PREPARE with HOLD before SET_UP": _ORDER,
    "destination: SETUP PREPARE with EXPORT before HOLD": _ORDER,
    "destination: MOVING LOADED without RECORD": _FASTER,
    "destination: MOVING LOADED with RECORD before TELL": _TWICE,
    "destination: MOVING CALL_OFF without CLOSE_EXPORTS": _FASTER,
    "destination: MOVING CALL_OFF with CLOSE_EXPORTS before RECORD_REFUSED": _ORDER,
    "destination: RUNNING STARTED with RECORD before TELL": _TWICE,
    "destination: REFUSED RUN without RECORD_REFUSED": _TWICE,
}
"""What the model does not find when one thing fails, and why."""


def mutations() -> dict[str, tuple[Table, Table]]:
    """Return every pair of tables with one thing wrong, by a name for what is wrong.

    Equal rows of one table are changed together.
    """
    found: dict[str, tuple[Table, Table]] = {}
    for side, table in TABLES.items():
        for name, wrong in (*_without_rows(table), *_other_actions(table), *_staying(table)):
            assert f"{side}: {name}" not in found
            found[f"{side}: {name}"] = (wrong, DESTINATION) if side == "source" else (SOURCE, wrong)
    return found


def _without_rows(table: Table) -> Iterator[tuple[str, Table]]:
    for phase, rows in table.items():
        for event in rows:
            left = {other: row for other, row in rows.items() if other is not event}
            yield f"{_name(phase, event)} is missing", {**table, phase: left}


def _other_actions(table: Table) -> Iterator[tuple[str, Table]]:
    for name, row in _rows(table):
        actions = row.actions
        for n, action in enumerate(actions):
            left = Row(row.to, actions[:n] + actions[n + 1 :])
            yield f"{name} without {action.name}", _changed(table, row, left)
        for n, (first, second) in enumerate(pairwise(actions)):
            swapped = Row(row.to, (*actions[:n], second, first, *actions[n + 2 :]))
            yield f"{name} with {second.name} before {first.name}", _changed(table, row, swapped)


def _staying(table: Table) -> Iterator[tuple[str, Table]]:
    """The actions are done, but the phase does not change."""
    for name, row in _rows(table):
        wrong = _changed(table, row, None)
        if wrong != table:
            yield f"{name} stays in its phase", wrong


def _rows(table: Table) -> Iterator[tuple[str, Row]]:
    """Yield the different rows, each with the name of the first that is equal to it."""
    seen: set[Row] = set()
    for phase, rows in table.items():
        for event, row in rows.items():
            if row not in seen:
                seen.add(row)
                yield _name(phase, event), row


def _changed(table: Table, row: Row, wrong: Row | None) -> Table:
    """Put a wrong row in the place of all that are equal to one; None: with each phase as its own target."""
    return {
        phase: {
            event: wrong or Row(phase, row.actions) if other == row else other
            for event, other in rows.items()
        }
        for phase, rows in table.items()
    }


def _name(phase: Phase, event: Event) -> str:
    return f"{phase.name} {event.name}"

"""Tables with one thing wrong: a row or an action is missing, actions are swapped, a phase stays."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from qmon.remote.migration.phases import Phase
from qmon.remote.migration.states import DESTINATION, SOURCE, Event, Row, Table

TABLES = {"source": SOURCE, "destination": DESTINATION}


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

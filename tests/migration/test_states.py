"""The promises about states, read off the tables themselves: every way through them is walked."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.states import (
    DESTINATION,
    ENDED,
    SOURCE,
    Event,
    InvalidTransitionError,
    Phase,
    StateMachine,
    Table,
    status_of,
)

QMP_STATUS = {
    *("none", "setup", "cancelling", "cancelled", "active", "postcopy-active", "postcopy-paused"),
    *("postcopy-recover", "completed", "failed", "colo", "pre-switchover", "device", "wait-unplug"),
}
TABLES = pytest.mark.parametrize("table", [SOURCE, DESTINATION], ids=["source", "destination"])


def reachable(table: Table, start: Phase, without: frozenset[Event] = frozenset()) -> set[Phase]:
    """The phases after ``start``, by any events but ``without``."""
    found: set[Phase] = set()
    left = [start]
    while left:
        for event, phase in table[left.pop()].items():
            if event not in without and phase not in found:
                found.add(phase)
                left.append(phase)
    return found


def one_migration(table: Table) -> Table:
    """The table without the way into a further migration."""
    return {
        phase: {event: to for event, to in row.items() if event is not Event.START or phase is Phase.NONE}
        for phase, row in table.items()
    }


@TABLES
def test_every_phase_that_can_be_reached_has_its_row_and_every_row_can_be_reached(table: Table) -> None:
    assert reachable(table, Phase.NONE) | {Phase.NONE} == set(table)


@TABLES
def test_from_every_phase_a_migration_can_end(table: Table) -> None:
    for phase in table:
        assert phase in ENDED or reachable(one_migration(table), phase) & ENDED, phase


@TABLES
def test_what_has_ended_stays_so_until_another_begins(table: Table) -> None:
    for phase in ENDED & set(table):
        assert set(table[phase]) <= {Event.START}


@TABLES
def test_every_phase_is_shown_as_a_status_of_qmp(table: Table) -> None:
    assert {status_of(phase) for phase in table} <= QMP_STATUS


def test_a_source_that_has_said_go_never_runs_by_itself() -> None:
    """Neither a failure nor a cancel, but only REFUSED brings it back."""
    source = one_migration(SOURCE)
    for phase in (Phase.GONE, Phase.DOUBT):
        assert not {Event.FAIL, Event.CANCEL} & set(source[phase])
        unrefused = reachable(source, phase, frozenset({Event.REFUSED}))
        assert unrefused <= {Phase.DOUBT, Phase.COMPLETED}
        assert not reachable(source, phase) & {Phase.CANCELLING, Phase.CANCELLED}


def test_a_source_completes_only_when_it_has_heard_that_the_destination_runs() -> None:
    source = one_migration(SOURCE)
    assert Phase.COMPLETED not in reachable(source, Phase.NONE, frozenset({Event.RUNNING}))
    assert Phase.COMPLETED not in reachable(source, Phase.NONE, frozenset({Event.GO}))
    assert Phase.COMPLETED not in reachable(source, Phase.NONE, frozenset({Event.PREPARED}))


def test_before_go_a_source_can_be_cancelled_and_can_fail() -> None:
    for phase in (Phase.SETUP, Phase.ACTIVE, Phase.SWITCHOVER, Phase.PREPARED):
        assert SOURCE[phase][Event.CANCEL] is Phase.CANCELLING
        assert SOURCE[phase][Event.FAIL] is Phase.FAILED


def test_a_cancelled_source_says_go_no_more() -> None:
    after = reachable(one_migration(SOURCE), Phase.CANCELLING)
    assert after == {Phase.CANCELLED}


def test_a_source_goes_only_when_the_destination_is_prepared() -> None:
    assert [phase for phase, row in SOURCE.items() if Event.GO in row] == [Phase.PREPARED]
    assert Phase.GONE not in reachable(SOURCE, Phase.NONE, frozenset({Event.PREPARED}))


def test_a_destination_runs_on_go_only() -> None:
    destination = one_migration(DESTINATION)
    assert Phase.COMPLETED not in reachable(destination, Phase.NONE, frozenset({Event.GO}))
    assert Phase.GONE not in reachable(destination, Phase.NONE, frozenset({Event.PREPARED}))
    assert [phase for phase, row in destination.items() if Phase.COMPLETED in row.values()] == [Phase.GONE]


def test_a_destination_that_has_heard_go_either_runs_or_says_that_it_never_will() -> None:
    assert dict(DESTINATION[Phase.GONE]) == {
        Event.RUNNING: Phase.COMPLETED,
        Event.REFUSED: Phase.FAILED,
    }


def test_a_destination_takes_in_one_migration() -> None:
    assert DESTINATION[Phase.COMPLETED] == {}
    assert DESTINATION[Phase.FAILED] == {Event.START: Phase.SETUP}


@TABLES
@given(events=st.lists(st.sampled_from(Event), max_size=30))
def test_a_machine_moves_by_its_table_and_nothing_else(table: Table, events: list[Event]) -> None:
    told: list[Phase] = []
    machine, phase = StateMachine(table, told.append), Phase.NONE
    walked: list[Phase] = []
    for event in events:
        allowed = event in table[phase]
        if allowed:
            phase = table[phase][event]
            walked.append(phase)
        assert machine.try_step(event) is allowed
        assert machine.phase is phase
    assert told == walked


def test_an_event_that_is_not_possible_is_named_and_changes_nothing() -> None:
    machine = StateMachine(SOURCE)
    with pytest.raises(InvalidTransitionError, match="GO is not possible in phase 'none'"):
        machine.step(Event.GO)
    assert machine.phase is Phase.NONE


def race(machine: StateMachine, *events: Event) -> dict[Event, bool]:
    """Step on as many threads at once; say for each whether it was taken."""
    taken: dict[Event, bool] = {}
    barrier = threading.Barrier(len(events))

    def attempt(event: Event) -> None:
        barrier.wait()
        taken[event] = machine.try_step(event)

    threads = [threading.Thread(target=attempt, args=(event,)) for event in events]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def test_of_a_cancel_and_a_go_at_the_same_time_one_wins() -> None:
    for _ in range(200):
        machine = StateMachine(SOURCE)
        for event in (Event.START, Event.AGREED, Event.CONVERGED, Event.PREPARED):
            machine.step(event)
        taken = race(machine, Event.GO, Event.CANCEL)
        assert sorted(taken.values()) == [False, True]
        assert machine.phase is (Phase.GONE if taken[Event.GO] else Phase.CANCELLING)

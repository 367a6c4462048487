"""The promises about states, read off the tables themselves: every way through them is walked."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qmon.migration.phases import Phase
from qmon.migration.states import (
    DESTINATION,
    SOURCE,
    Action,
    Event,
    StateMachine,
    Table,
)
from qmon.transitions import InvalidTransitionError

QMP_STATUS = set(
    """
    none setup cancelling cancelled active postcopy-active postcopy-paused
    postcopy-recover completed failed colo pre-switchover device wait-unplug
    """.split()
)
BEFORE_GO = (Phase.SETUP, Phase.ACTIVE, Phase.PRE_SWITCHOVER, Phase.SWITCHOVER, Phase.PREPARED, Phase.WRITTEN)
TO_PREPARED = (Event.START, Event.AGREED, Event.CONVERGED, Event.PREPARED)
ENDED = {phase for phase in Phase if not phase.is_under_way}
TABLES = pytest.mark.parametrize("table", [SOURCE, DESTINATION], ids=["source", "destination"])


def reachable(table: Table, start: Phase, without: frozenset[Event] = frozenset()) -> set[Phase]:
    """The phases after ``start``, by any events but ``without``."""
    found: set[Phase] = set()
    left = [start]
    while left:
        for event, row in table[left.pop()].items():
            if event not in without and row.to not in found:
                found.add(row.to)
                left.append(row.to)
    return found


def one_migration(table: Table) -> Table:
    """The table without the way into a further migration."""
    return {
        phase: {event: row for event, row in rows.items() if event is not Event.START or phase is Phase.NONE}
        for phase, rows in table.items()
    }


def machine_of(table: Table, *events: Event) -> StateMachine:
    """A machine that has gone so far, with actions that do nothing."""
    machine = StateMachine(table, lambda action: None)
    for event in events:
        machine.step(event)
    return machine


@TABLES
def test_every_phase_that_can_be_reached_has_its_row_and_every_row_can_be_reached(table: Table) -> None:
    assert reachable(table, Phase.NONE) | {Phase.NONE} == set(table)


@TABLES
def test_from_every_phase_a_migration_can_end(table: Table) -> None:
    for phase in table:
        assert phase in ENDED or reachable(one_migration(table), phase) & ENDED, phase


@TABLES
def test_every_phase_is_shown_as_a_status_of_qmp(table: Table) -> None:
    assert {phase.status for phase in table} <= QMP_STATUS


def test_what_has_ended_stays_so_until_another_begins_or_the_operator_decides() -> None:
    for table in (SOURCE, DESTINATION):
        for phase in ENDED & set(table):
            others = frozenset({Event.START, Event.KEEP, Event.RELEASE, Event.HEARD})
            assert reachable(table, phase, others) <= {phase}


def test_a_source_that_has_said_go_never_runs_by_itself() -> None:
    """Neither a failure nor a cancel, but only REFUSED or the operator brings it back."""
    source = one_migration(SOURCE)
    for phase in (Phase.GONE, Phase.DOUBT):
        assert not {Event.FAIL, Event.CANCEL} & set(source[phase])
        unrefused = reachable(source, phase, frozenset({Event.REFUSED, Event.KEEP}))
        assert unrefused == {Phase.GONE, Phase.DOUBT, Phase.COMPLETED}
        assert not reachable(source, phase) & {Phase.CANCELLING, Phase.CANCELLED}


def test_a_source_that_nobody_answers_never_runs_by_itself_after_go() -> None:
    source = one_migration(SOURCE)
    assert [phase for phase, rows in SOURCE.items() if Event.ORDER in rows] == [Phase.WRITTEN]
    unrefused = reachable(source, Phase.ORDERED, frozenset({Event.REFUSED, Event.KEEP, Event.RELEASE}))
    assert unrefused == {Phase.UNCONFIRMED, Phase.ABANDONED}
    assert not {Event.FAIL, Event.CANCEL} & set(source[Phase.ORDERED])


def test_a_source_completes_only_when_it_has_heard_that_the_destination_runs() -> None:
    source = one_migration(SOURCE)
    for needed in (Event.RUNNING, Event.GO, Event.PREPARED):
        assert Phase.COMPLETED not in reachable(source, Phase.NONE, frozenset({needed, Event.RELEASE}))


@pytest.mark.parametrize("phase", BEFORE_GO)
@pytest.mark.parametrize("event", [Event.FAIL, Event.LOST])
def test_a_source_that_fails_before_go_has_its_disks_back(phase: Phase, event: Event) -> None:
    row = SOURCE[phase][event]
    assert row.to is Phase.FAILED
    assert Action.TAKE_BACK in row.actions


@pytest.mark.parametrize("phase", BEFORE_GO)
def test_a_source_that_is_cancelled_before_go_has_its_disks_back(phase: Phase) -> None:
    row = SOURCE[phase][Event.CANCEL]
    assert row.to is Phase.CANCELLING
    for stopped in SOURCE[Phase.CANCELLING].values():
        assert stopped.to is Phase.CANCELLED
        assert Action.TAKE_BACK in stopped.actions


def test_a_cancel_does_nothing_that_could_keep_whoever_asks_for_it_waiting() -> None:
    assert all(not rows[Event.CANCEL].actions for rows in SOURCE.values() if Event.CANCEL in rows)


def test_a_cancelled_source_says_go_no_more() -> None:
    assert reachable(one_migration(SOURCE), Phase.CANCELLING) == {Phase.CANCELLED}


def test_a_source_goes_only_when_the_destination_is_prepared() -> None:
    assert [phase for phase, rows in SOURCE.items() if Event.GO in rows] == [Phase.PREPARED]
    assert Phase.GONE not in reachable(SOURCE, Phase.NONE, frozenset({Event.PREPARED}))


def test_a_destination_runs_on_go_or_by_the_operator_only() -> None:
    destination = one_migration(DESTINATION)
    for needed in ({Event.GO, Event.KEEP}, {Event.FINISHED}, {Event.RUNNING}):
        assert Phase.COMPLETED not in reachable(destination, Phase.NONE, frozenset(needed))
    running = [row for rows in destination.values() for row in rows.values() if Action.RUN in row.actions]
    assert running == [destination[Phase.GONE][Event.RUNNING]]


def test_a_destination_that_has_heard_go_either_runs_or_says_that_it_never_will() -> None:
    assert {event: row.to for event, row in DESTINATION[Phase.GONE].items()} == {
        Event.RUNNING: Phase.COMPLETED,
        Event.REFUSED: Phase.FAILED,
    }


def test_a_destination_that_has_answered_go_answers_it_the_same_again() -> None:
    for phase, answer in ((Phase.COMPLETED, Action.SEND_RUNNING), (Phase.FAILED, Action.SEND_REFUSED)):
        row = DESTINATION[phase][Event.GO]
        assert row.to is phase
        assert row.actions[-1] is answer


def test_a_destination_that_runs_takes_no_other_migration() -> None:
    assert reachable(DESTINATION, Phase.COMPLETED) == {Phase.COMPLETED, Phase.SETTLED}


@TABLES
@given(events=st.lists(st.sampled_from(Event), max_size=30))
def test_a_machine_moves_and_acts_by_its_table_and_nothing_else(table: Table, events: list[Event]) -> None:
    told: list[Phase | Action] = []
    machine, phase = StateMachine(table, told.append, told.append), Phase.NONE
    expected: list[Phase | Action] = []
    for event in events:
        row = table[phase].get(event)
        if row is not None:
            phase = row.to
            expected += [*row.actions, phase]
        assert machine.try_step(event) is (row is not None)
        assert machine.phase is phase
    assert told == expected


def test_a_machine_begins_where_a_restart_says() -> None:
    machine = StateMachine(SOURCE, lambda action: None, phase=Phase.DOUBT)
    assert machine.step(Event.RECONNECTED) is Phase.GONE


def test_an_action_that_fails_leaves_those_behind_it_undone() -> None:
    done: list[Action] = []

    def full_disk(action: Action) -> None:
        if action is Action.RECORD_PREPARED:
            raise OSError("No space left on device")
        done.append(action)

    machine = StateMachine(DESTINATION, full_disk)
    machine.step(Event.START)
    machine.step(Event.AGREED)
    done.clear()
    with pytest.raises(OSError, match="No space left"):
        machine.step(Event.FINISHED)
    assert machine.phase is Phase.PREPARED
    assert done == [Action.FLUSH]


def test_an_event_that_is_not_possible_is_named_and_changes_nothing() -> None:
    machine = machine_of(SOURCE)
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
        machine = machine_of(SOURCE, *TO_PREPARED)
        taken = race(machine, Event.GO, Event.CANCEL)
        assert sorted(taken.values()) == [False, True]
        assert machine.phase is (Phase.GONE if taken[Event.GO] else Phase.CANCELLING)

"""The five promises, in every state that the tables bring two sides into; and that a rule is missed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from coverage import Coverage

from qmon.migration.phases import Phase
from qmon.migration.states import DESTINATION, SOURCE, Action, Event, Row, Table
from tests.migration.model import (
    BEFORE_GO,
    COMPLETED_MEANS,
    NO_DEAD_END,
    ONE_RUNS,
    RUNS_ON,
    SERVED,
    WRITES_KEPT,
    Model,
    Search,
)


@pytest.fixture(autouse=True)
def unmeasured() -> Iterator[None]:
    """Coverage is not measured here: it adds half to the longest tests, and others cover the rows."""
    coverage = Coverage.current()
    if coverage is not None:
        coverage.stop()
    yield
    if coverage is not None:
        coverage.start()


WORLDS = {
    "failing actions": Model(stranger=False),
    "another source": Model(writes=0),
    "a second attempt": Model(failures=False, stranger=False, attempts=2, writes=0),
    "a second attempt that nobody dies in": Model(failures=False, stranger=False, attempts=2, deaths=False),
    "a pause at the switchover": Model(pauses=True, failures=False, stranger=False),
    "shared storage": Model(shared_storage=True, stranger=False),
    "records out of a backup": Model(failures=False, stranger=False, restores=True),
    "a destination that loses its record": Model(failures=False, stranger=False, loses="destination"),
    "images by other names": Model(failures=False, stranger=False, renames=True),
    "a switchover that takes too long": Model(overdue=2, failures=False, stranger=False),
    "one that takes too long where actions fail": Model(overdue=1, stranger=False),
    "one that takes too long where another source comes": Model(overdue=1, failures=False, writes=0),
    "one that takes too long behind a pause": Model(overdue=1, pauses=True, failures=False, stranger=False),
    "one that takes too long on shared storage": Model(
        overdue=1, shared_storage=True, failures=False, stranger=False
    ),
    "a line that breaks and is resumed twice": Model(
        resumes=2, writes=0, failures=False, stranger=False, deaths=False
    ),
    "a line that breaks while a guest writes": Model(resumes=1, failures=False, stranger=False, deaths=False),
    "a line that breaks where sides die": Model(resumes=1, writes=0, failures=False, stranger=False),
}


@pytest.mark.sample(6)
@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_the_promises_are_kept_whatever_happens(world: Model) -> None:
    search = Search(world)
    finding = search.run()
    assert finding is None, str(finding)
    assert search.completes


def without(table: Table, action: Action, *phases: Phase) -> Table:
    """The table whose rows, in ``phases`` or in all, do not have the action."""
    found = False
    changed: dict[Phase, dict[Event, Row]] = {}
    for phase, rows in table.items():
        changed[phase] = dict(rows)
        for event, row in rows.items():
            if action in row.actions and (not phases or phase in phases):
                found = True
                left = tuple(other for other in row.actions if other is not action)
                changed[phase][event] = Row(row.to, left)
    assert found, f"{action.name} is in no such row"
    return changed


def replaced(table: Table, phase: Phase, event: Event, row: Row) -> Table:
    assert table[phase].get(event) != row
    return {**table, phase: {**table[phase], event: row}}


def removed(table: Table, phase: Phase, event: Event) -> Table:
    return {**table, phase: {other: row for other, row in table[phase].items() if other is not event}}


def quick(source: Table = SOURCE, destination: Table = DESTINATION) -> Model:
    return Model(source, destination, stranger=False, failures=False)


def failing(source: Table = SOURCE, destination: Table = DESTINATION) -> Model:
    return Model(source, destination, stranger=False)


def shared(source: Table = SOURCE, destination: Table = DESTINATION) -> Model:
    return Model(source, destination, stranger=False, failures=False, shared_storage=True)


def remembering(**how: Any) -> Model:
    return Model(stranger=False, failures=False, **how)


def slow(source: Table = SOURCE, destination: Table = DESTINATION) -> Model:
    return Model(source, destination, stranger=False, failures=False, overdue=1)


_TAKE_BACK = (Action.FORGET, Action.TAKE_BACK)

BROKEN = {
    "gates stay open": (quick(without(SOURCE, Action.CLOSE_GATES)), WRITES_KEPT),
    "shared images are not let go of": (shared(without(SOURCE, Action.LET_GO)), WRITES_KEPT),
    "GO is not recorded": (quick(without(SOURCE, Action.RECORD_GONE)), ONE_RUNS),
    "GO is recorded when it has been sent": (
        quick(
            replaced(
                without(SOURCE, Action.RECORD_GONE),
                Phase.PREPARED,
                Event.GO,
                Row(Phase.GONE, (Action.SEND_GO, Action.RECORD_GONE)),
            )
        ),
        ONE_RUNS,
    ),
    "a lost answer is taken for a refusal": (
        quick(replaced(SOURCE, Phase.GONE, Event.LOST, Row(Phase.FAILED, _TAKE_BACK))),
        ONE_RUNS,
    ),
    "a cancel after GO": (
        quick(replaced(SOURCE, Phase.GONE, Event.CANCEL, Row(Phase.CANCELLING))),
        ONE_RUNS,
    ),
    "a cancel in doubt": (
        quick(replaced(SOURCE, Phase.DOUBT, Event.CANCEL, Row(Phase.CANCELLING))),
        ONE_RUNS,
    ),
    "a failure after GO": (
        quick(replaced(SOURCE, Phase.GONE, Event.LOST, Row(Phase.PREPARED))),
        ONE_RUNS,
    ),
    "doubt is never asked about": (quick(removed(SOURCE, Phase.DOUBT, Event.RECONNECTED)), NO_DEAD_END),
    "GO is not sent again": (
        quick(replaced(SOURCE, Phase.DOUBT, Event.RECONNECTED, Row(Phase.GONE))),
        NO_DEAD_END,
    ),
    "a loss after GO is not noticed": (quick(removed(SOURCE, Phase.GONE, Event.LOST)), NO_DEAD_END),
    "guests of what has moved are not turned away": (
        quick(without(SOURCE, Action.TURN_AWAY)),
        NO_DEAD_END,
    ),
    "images are not taken back": (quick(without(SOURCE, Action.TAKE_BACK)), RUNS_ON),
    "images are not taken back after a cancel": (
        quick(without(SOURCE, Action.TAKE_BACK, Phase.CANCELLING)),
        RUNS_ON,
    ),
    "the record of GO stays when the source runs on": (
        remembering(source=without(SOURCE, Action.FORGET, *BEFORE_GO, Phase.CANCELLING), compares=False),
        WRITES_KEPT,
    ),
    "the source runs on before it forgets": (
        remembering(
            source={
                phase: {
                    event: Row(row.to, row.actions[::-1] if phase in BEFORE_GO else row.actions)
                    for event, row in rows.items()
                }
                for phase, rows in SOURCE.items()
            },
            compares=False,
        ),
        WRITES_KEPT,
    ),
    "a failure before GO goes unnoticed": (
        quick(removed(removed(SOURCE, Phase.SWITCHOVER, Event.FAIL), Phase.SWITCHOVER, Event.LOST)),
        RUNS_ON,
    ),
    "completed as soon as everything has arrived": (
        quick(
            replaced(
                SOURCE,
                Phase.SWITCHOVER,
                Event.PREPARED,
                Row(Phase.COMPLETED, (Action.LET_GO, Action.RECORD_MOVED, Action.TURN_AWAY)),
            )
        ),
        COMPLETED_MEANS,
    ),
    "completed when GO is lost": (
        quick(replaced(SOURCE, Phase.GONE, Event.LOST, SOURCE[Phase.GONE][Event.RUNNING])),
        COMPLETED_MEANS,
    ),
    "no flush": (quick(destination=without(DESTINATION, Action.FLUSH)), WRITES_KEPT),
    "what has arrived is not recorded": (
        quick(destination=without(DESTINATION, Action.RECORD_PREPARED)),
        NO_DEAD_END,
    ),
    "that it runs is not recorded": (
        quick(destination=without(DESTINATION, Action.RECORD_RUNNING)),
        COMPLETED_MEANS,
    ),
    "it answers before it runs": (
        quick(
            destination=replaced(
                DESTINATION,
                Phase.GONE,
                Event.RUNNING,
                Row(Phase.COMPLETED, (Action.SEND_RUNNING, Action.RUN)),
            )
        ),
        COMPLETED_MEANS,
    ),
    "it runs when everything has arrived": (
        quick(
            destination=replaced(
                DESTINATION,
                Phase.ACTIVE,
                Event.FINISHED,
                Row(Phase.COMPLETED, (Action.FLUSH, Action.RECORD_RUNNING, Action.RUN, Action.SEND_PREPARED)),
            )
        ),
        ONE_RUNS,
    ),
    "it runs when the source is lost": (
        quick(
            destination=replaced(
                DESTINATION, Phase.PREPARED, Event.LOST, DESTINATION[Phase.PREPARED][Event.GO]
            )
        ),
        ONE_RUNS,
    ),
    "it gives up when the source is lost, and answers nothing": (
        quick(
            destination=removed(
                replaced(DESTINATION, Phase.PREPARED, Event.LOST, Row(Phase.FAILED, (Action.GIVE_UP,))),
                Phase.FAILED,
                Event.GO,
            )
        ),
        NO_DEAD_END,
    ),
    "it does not say again that it runs": (
        quick(destination=removed(DESTINATION, Phase.COMPLETED, Event.GO)),
        NO_DEAD_END,
    ),
    "a refusal is not recorded when another migration begins": (
        Model(
            destination=without(DESTINATION, Action.RECORD_REFUSED, Phase.PREPARED, Phase.FAILED),
            failures=False,
            compares=False,
        ),
        WRITES_KEPT,
    ),
    "disks are overwritten whose refusal could not be recorded": (
        Model(destination=replaced(DESTINATION, Phase.FAILED, Event.START, Row(Phase.SETUP)), writes=0),
        WRITES_KEPT,
    ),
    "a refusal is said again that could not be recorded": (
        failing(destination=without(DESTINATION, Action.RECORD_REFUSED, Phase.FAILED)),
        ONE_RUNS,
    ),
    "a refusal is said before it is recorded": (
        failing(
            destination=replaced(
                without(DESTINATION, Action.RECORD_REFUSED, Phase.FAILED),
                Phase.GONE,
                Event.REFUSED,
                Row(Phase.FAILED, (Action.SEND_REFUSED, Action.GIVE_UP, Action.RECORD_REFUSED)),
            )
        ),
        ONE_RUNS,
    ),
    "what could not be flushed waits for GO": (
        failing(destination=replaced(DESTINATION, Phase.PREPARED, Event.FAIL, Row(Phase.PREPARED))),
        WRITES_KEPT,
    ),
    "shared disks are not recorded as moved": (
        shared(
            replaced(
                SOURCE,
                Phase.GONE,
                Event.RUNNING,
                Row(Phase.COMPLETED, (Action.TURN_AWAY, Action.FORGET, Action.SEND_HEARD)),
            )
        ),
        ONE_RUNS,
    ),
    "a record is found by the image's name alone": (remembering(renames=True, by_name=True), ONE_RUNS),
    "a side removes the other's record": (remembering(owned=False), ONE_RUNS),
    "a restored record is not compared with the image": (
        remembering(restores=True, compares=False),
        WRITES_KEPT,
    ),
    "the source's record is lost": (remembering(loses="source"), ONE_RUNS),
    "the guests are not let on when it takes too long": (
        slow(without(SOURCE, Action.OPEN_GATES)),
        SERVED,
    ),
    "the guests are let on, and the switchover goes on": (
        slow(replaced(SOURCE, Phase.SWITCHOVER, Event.OVERDUE, Row(Phase.SWITCHOVER, (Action.OPEN_GATES,)))),
        WRITES_KEPT,
    ),
    "the guests are let on when the images are let go of": (
        slow(replaced(SOURCE, Phase.PREPARED, Event.OVERDUE, SOURCE[Phase.SWITCHOVER][Event.OVERDUE])),
        SERVED,
    ),
    "the guests are let on when the destination may run": (
        slow(replaced(SOURCE, Phase.GONE, Event.OVERDUE, Row(Phase.ACTIVE, (Action.TAKE_BACK,)))),
        ONE_RUNS,
    ),
    "the record that everything is here stays when more comes": (
        remembering(
            destination=replaced(
                DESTINATION, Phase.PREPARED, Event.BACK, Row(Phase.ACTIVE, (Action.SEND_BACK,))
            ),
            overdue=1,
            compares=False,
        ),
        WRITES_KEPT,
    ),
    "it runs without its disks": (
        quick(destination=without(DESTINATION, Action.LOCK, Phase.PREPARED)),
        COMPLETED_MEANS,
    ),
}


@pytest.mark.sample(14)
@pytest.mark.parametrize(("model", "promise"), BROKEN.values(), ids=BROKEN)
def test_a_table_without_one_of_its_rules_is_found_wrong(model: Model, promise: str) -> None:
    finding = Search(model).run()
    assert finding is not None
    assert finding.promise == promise, str(finding)


def test_a_destination_that_takes_up_an_older_resume_is_found_wrong() -> None:
    model = Model(resumes=2, counts_lines=False, writes=0, failures=False, stranger=False, deaths=False)
    finding = Search(model).run()
    assert finding is not None
    assert finding.promise == NO_DEAD_END


def test_a_destination_that_takes_up_two_orders_at_once_is_found_wrong() -> None:
    finding = Search(Model(failures=False, stranger=False, in_turn=False)).run()
    assert finding is not None
    assert finding.promise == COMPLETED_MEANS


def test_a_source_that_forgets_that_it_has_moved_asks_and_hears_it_again() -> None:
    """So RECORD_MOVED saves it the question, and breaks nothing by its absence."""
    assert Search(quick(without(SOURCE, Action.RECORD_MOVED))).run() is None

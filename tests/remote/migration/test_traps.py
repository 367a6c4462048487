"""Each trap that real QEMUs were seen to set is a table, or a setting, that the model finds wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from qmon.remote.migration.agreement.capabilities import wanted
from qmon.remote.migration.phases import Phase
from qmon.remote.migration.recovery.resume import Start, resumed_destination, resumed_source
from qmon.remote.migration.states import DESTINATION, SOURCE, Action, Event, Row, Table
from tests.remote.migration.model.search import (
    BECOMES_CLEAN,
    BROUGHT_BACK,
    COMPLETED_MEANS,
    COMPLETES,
    ENDS,
    EXPORTS_CLOSED,
    GOES_ON,
    NEVER_BACK,
    ONE_RUNS,
    STAYS_STOPPED,
    WHOLE,
    Search,
)
from tests.remote.migration.model.world import World


def put(table: Table, phase: Phase, event: Event, to: Phase, *actions: Action) -> Table:
    """The table with another row."""
    row = Row(to, actions)
    assert table[phase].get(event) != row
    return {**table, phase: {**table[phase], event: row}}


def without(table: Table, action: Action, *phases: Phase) -> Table:
    """The table whose rows, in ``phases`` or in all, do not have an action."""
    changed = {
        phase: {
            event: Row(row.to, tuple(each for each in row.actions if each is not action))
            if not phases or phase in phases
            else row
            for event, row in rows.items()
        }
        for phase, rows in table.items()
    }
    assert changed != table
    return changed


def set_up(**capabilities: bool) -> Mapping[str, bool]:
    now = {**wanted(is_source=True), **wanted(is_source=False)}
    changed = {name.replace("_", "-"): state for name, state in capabilities.items()}
    assert changed.items() - now.items()
    return {**now, **changed}


def source(table: Table, **more: Any) -> World:
    return World(source=table, faults=more.pop("faults", 1), **more)


def destination(table: Table, **more: Any) -> World:
    return World(destination=table, faults=more.pop("faults", 1), **more)


def runs_what_has_arrived(recorded: str, status: str, run_state: str) -> Start:
    start = resumed_destination(recorded, status, run_state)
    return (Phase.ARRIVED, Event.RUN) if start == (Phase.ARRIVED, Event.LOST) else start


def forgets_run(recorded: str, status: str, run_state: str) -> Start:
    return resumed_destination(Phase.ARRIVED.value, status, run_state)


def calls_off_what_is_completed(recorded: str, status: str, run_state: str) -> Start:
    return Phase.COPYING, Event.FAIL


def takes_back_what_was_sent(recorded: str, status: str, run_state: str) -> Start:
    start = resumed_source(recorded, status, run_state)
    return (Phase.DOUBT, Event.KEEP) if start == (Phase.HANDED, Event.LOST) else start


RUN_BEFORE_COMPLETED = put(
    SOURCE,
    Phase.PAUSED,
    Event.WHOLE,
    Phase.HANDED,
    Action.RECORD,
    Action.CONTINUE,
    Action.UNGUARD,
    Action.SEND_RUN,
)

RULES = {
    "1: no return path": (World(faults=1, capabilities=set_up(return_path=False)), COMPLETED_MEANS),
    "1: the source does not set it up": (source(without(SOURCE, Action.SET_UP)), COMPLETED_MEANS),
    "1: the destination does not set it up": (
        destination(without(DESTINATION, Action.SET_UP)),
        COMPLETED_MEANS,
    ),
    "2: the destination is not told to stop": (destination(without(DESTINATION, Action.HOLD)), NEVER_BACK),
    "2: it is told to stop when the guest has arrived": (
        destination(
            put(
                without(DESTINATION, Action.HOLD),
                Phase.MOVING,
                Event.LOADED,
                Phase.ARRIVED,
                Action.HOLD,
                Action.TELL,
                Action.RECORD,
            )
        ),
        NEVER_BACK,
    ),
    "3: the destination runs what has arrived": (
        destination(
            put(DESTINATION, Phase.MOVING, Event.LOADED, Phase.RUNNING, Action.RECORD_RUN, Action.RUN)
        ),
        NEVER_BACK,
    ),
    "3: the destination runs when the line is lost": (
        destination(
            put(DESTINATION, Phase.ARRIVED, Event.LOST, Phase.RUNNING, Action.RECORD_RUN, Action.RUN)
        ),
        ONE_RUNS,
    ),
    "3: cont before the memory has come": (
        destination(
            put(DESTINATION, Phase.COPYING, Event.MEMORY, Phase.MOVING, Action.TAKE_MEMORY, Action.RUN)
        ),
        NEVER_BACK,
    ),
    "3: the source runs when no answer comes": (
        source(put(SOURCE, Phase.HANDED, Event.LOST, Phase.UNDOING, Action.RUN_HERE, Action.UNDO)),
        ONE_RUNS,
    ),
    "3: the source runs when the destination does not know": (
        source(put(SOURCE, Phase.HANDED, Event.FAIL, Phase.UNDOING, Action.RUN_HERE, Action.UNDO), faults=2),
        NEVER_BACK,
    ),
    "3: a refusal is not kept": (destination(without(DESTINATION, Action.RECORD_REFUSED)), BECOMES_CLEAN),
    "3: a guest that has perhaps run is refused": (
        destination(put(DESTINATION, Phase.RUNNING, Event.BROKEN, Phase.REFUSED, Action.RECORD_REFUSED)),
        NEVER_BACK,
    ),
    "4: a cancel behind migrate-continue, where the destination was not told to stop": (
        World(
            put(SOURCE, Phase.SWITCHING, Event.CANCEL, Phase.SWITCHING, Action.TAKE_BACK),
            without(DESTINATION, Action.HOLD),
            faults=0,
        ),
        ONE_RUNS,
    ),
    "4: a cancel behind completed": (
        source(put(SOURCE, Phase.HANDED, Event.LOST, Phase.SWITCHING, Action.TAKE_BACK)),
        GOES_ON,
    ),
    "4: RUN goes out, and the migration can still be taken back": (
        source(put(RUN_BEFORE_COMPLETED, Phase.HANDED, Event.LOST, Phase.SWITCHING, Action.TAKE_BACK)),
        NEVER_BACK,
    ),
    "5: the mirrors are left": (source(without(SOURCE, Action.END_COPIES)), COMPLETES),
    "5: the mirrors end while the guest runs": (
        source(
            put(
                put(
                    SOURCE,
                    Phase.COPYING,
                    Event.READY,
                    Phase.MOVING,
                    Action.END_COPIES,
                    Action.REMOVE_TARGETS,
                    Action.START_MEMORY,
                ),
                Phase.MOVING,
                Event.STOPPED,
                Phase.PAUSED,
                Action.CLOSE_THERE,
            )
        ),
        WHOLE,
    ),
    "5: no pause before the switchover": (
        World(faults=1, capabilities=set_up(pause_before_switchover=False)),
        WHOLE,
    ),
    "6: the copies are not compared": (source(without(SOURCE, Action.CHECK_COPIES)), WHOLE),
    "6: what the comparison finds is no failure": (
        source(
            put(
                SOURCE,
                Phase.PAUSED,
                Event.FAIL,
                Phase.SWITCHING,
                Action.REMOVE_TARGETS,
                Action.CLOSE_THERE,
                Action.CONTINUE,
            )
        ),
        WHOLE,
    ),
    "6: the nodes go before the mirrors": (
        source(
            put(
                SOURCE,
                Phase.MOVING,
                Event.STOPPED,
                Phase.PAUSED,
                Action.REMOVE_TARGETS,
                Action.END_COPIES,
                Action.CHECK_COPIES,
                Action.CLOSE_THERE,
            )
        ),
        COMPLETES,
    ),
    "8: the exports stay": (source(without(SOURCE, Action.CLOSE_THERE)), EXPORTS_CLOSED),
    "8: the destination leaves them": (
        destination(without(DESTINATION, Action.CLOSE_EXPORTS, Phase.MOVING)),
        EXPORTS_CLOSED,
    ),
    "8: they end behind migrate-continue": (
        source(
            put(
                without(SOURCE, Action.CLOSE_THERE),
                Phase.SWITCHING,
                Event.SENT,
                Phase.HANDED,
                Action.UNGUARD,
                Action.SEND_RUN,
                Action.CLOSE_THERE,
            )
        ),
        EXPORTS_CLOSED,
    ),
    "9: nobody yanks": (World(faults=1, yanks=False), ENDS),
    "10: no guardian": (source(without(SOURCE, Action.GUARD)), BROUGHT_BACK),
    "10: it ends when the memory is sent": (
        source(put(SOURCE, Phase.COPYING, Event.READY, Phase.MOVING, Action.UNGUARD, Action.START_MEMORY)),
        BROUGHT_BACK,
    ),
    "a new console runs what has arrived": (
        World(faults=1, resumed_destination=runs_what_has_arrived),
        ONE_RUNS,
    ),
    "a new console forgets that RUN had come": (
        World(faults=1, resumed_destination=forgets_run),
        STAYS_STOPPED,
    ),
    "a new console calls off what is completed": (
        World(faults=1, resumed_source=calls_off_what_is_completed),
        GOES_ON,
    ),
    "a new console takes back what was sent": (
        World(faults=1, resumed_source=takes_back_what_was_sent),
        ONE_RUNS,
    ),
}
"""By the number of the rule. Rule 7, holes that stay holes, is about no state, and stands in no table."""


@pytest.mark.parametrize(("world", "promise"), RULES.values(), ids=RULES)
def test_a_trap_is_found(world: World, promise: str) -> None:
    finding = Search(world).run()
    assert finding is not None
    assert finding.promise == promise, str(finding)

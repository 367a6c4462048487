"""Logs, trace events and descriptors: the same lines to QEMU's monitor and to qmon's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.peers import require
from tests.support.processes import open_descriptors
from tests.support.two_monitors import TwoMonitors, differing, told

LINES = r"""
log none
log guest_errors
log guest_errors,unimp
log tid
log all
log unimp,tid
log trace:nosuch
log trace:nosuch,trace:other
log trace:nosuch*
log trace:-nosuch
log trace:handle_hmp_command
info trace-events handle_hmp_command
log none
info trace-events handle_hmp_command
log trace:-handle_hmp*
info trace-events handle_hmp_command
log a b
trace-event handle_hmp_command on
info trace-events handle_hmp_command
trace-event handle_?mp_command off
info trace-events handle_hmp_*
trace-event nosuch on
trace-event nosuch* on
trace-event nosuch? off
trace-event [h] off
trace-event "" off
trace-event handle_hmp_command maybe
trace-event handle_hmp_command
trace-event handle_hmp_command on 0
trace-event nosuch off 5
trace-event handle_hmp_command on x
info trace-events handle_?mp_command
info trace-events migrate_set_state
info trace-events nosuch
info trace-events nosuch*
info trace-events nosuch 0
info trace-events handle_hmp_command 7
info trace-events handle_hmp_command -1
info trace-events a b
info trace-events ""
logfile x.log
log tid
log all
log none
logfile /nosuch/x.log
log unimp
log tid
logfile x%d.log
logfile x%s.log
logfile x%d%d.log
logfile x%%.log
logfile %
logfile %d%
logfile .
logfile a b
logfile y.log
log none
getfd x
getfd 1x
getfd ""
getfd x y
closefd x
closefd 1x
closefd ""
""".strip().split("\n")

QMP: tuple[tuple[str, dict[str, Any]], ...] = (
    ("trace-event-get-state", {"name": "nosuch"}),
    ("trace-event-get-state", {"name": "nosuch*"}),
    ("trace-event-get-state", {"name": "handle_hmp_command"}),
    ("trace-event-get-state", {"name": "handle_hmp_command", "vcpu": 0}),
    ("trace-event-set-state", {"name": "nosuch", "enable": True}),
    ("trace-event-set-state", {"name": "nosuch*", "enable": True}),
    ("trace-event-set-state", {"name": "handle_hmp_command", "enable": True, "ignore-unavailable": True}),
    ("trace-event-get-state", {"name": "handle_hmp_command"}),
    ("trace-event-set-state", {"name": "handle_hmp_command", "enable": False}),
    ("getfd", {"fdname": "x"}),
    ("getfd", {}),
    ("closefd", {"fdname": "x"}),
    ("add-fd", {"fdset-id": -1}),
    ("remove-fd", {"fdset-id": 1}),
    ("remove-fd", {"fdset-id": 1, "fd": 2}),
    ("remove-fd", {}),
    ("query-fdsets", {}),
)

OWN_ITEMS = "qmon tells the meanings of the items in its own words"
OWN_EVENTS = "qmon has trace events of its own"

ON_PURPOSE = {
    "log nosuch": OWN_ITEMS,
    "log help": OWN_ITEMS,
    'log ""': OWN_ITEMS,
    "log guest_errors,": OWN_ITEMS,
    "log trace:": OWN_ITEMS,
    "log trace:help": "QEMU prints the list on its standard output",
    "info trace-events": OWN_EVENTS,
    "info trace-events qmp_*_query_status": "qmon sorts the events by their names",
    "trace-file": "a QEMU that was built otherwise has it",
    "trace-file set x": "a QEMU that was built otherwise has it",
}
"""Lines that qmon answers otherwise than QEMU 7.2, with the reason."""


@pytest.fixture(scope="module")
def monitors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TwoMonitors]:
    require("qemu-system-x86_64")
    with TwoMonitors(tmp_path_factory.mktemp("debugging")) as monitors:
        yield monitors


def test_lines_are_answered_as_by_qemu(monitors: TwoMonitors) -> None:
    differences = [text for line in LINES if (text := told(differing(monitors, [line])))]
    assert not differences, "\n".join(differences)


def test_what_qmon_answers_otherwise_on_purpose_differs(monitors: TwoMonitors) -> None:
    assert [line for line in ON_PURPOSE if differing(monitors, [line])] == list(ON_PURPOSE)


def test_the_same_by_qmp(monitors: TwoMonitors) -> None:
    sides = [program.qmp() for program in (monitors.theirs, monitors.ours)]
    try:
        for command, arguments in QMP:
            theirs, ours = (side.ask(command, arguments) for side in sides)
            assert ours == theirs, (command, arguments)
    finally:
        for side in sides:
            side.close()


def test_descriptors_come_with_a_line(monitors: TwoMonitors, tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("wb") as file:
        for line, comes_along in (
            ("getfd a", True),
            ("getfd a", False),
            ("getfd a", True),
            ("getfd 1a", True),
            ("info name", True),
            ("getfd b", False),
            ("closefd b", False),
            ("closefd a", False),
            ("closefd a", False),
        ):
            theirs, ours = (
                program.lines(line, [file.fileno()] if comes_along else [])
                for program in (monitors.theirs, monitors.ours)
            )
            assert ours == theirs, line
    assert str(path) not in open_descriptors(monitors.ours.process.pid)

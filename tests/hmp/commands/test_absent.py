"""What the machine does not have: one row each, and the target's own monitor where it has one."""

from __future__ import annotations

import asyncio

import pytest

from qmon.hmp.monitor import Monitor
from qmon.hmp.tables.table import default_tables
from qmon.qmp.absent import ABSENT
from qmon.qmp.registry import Registry
from tests.support.fake_target import FakePerson


def test_every_row_is_of_a_function_of_the_tables() -> None:
    main = default_tables().main
    commands = [inner for command in main for inner in (command, *(command.sub_table or ()))]
    known = {command.entry.handler for command in commands}
    assert {name for row in ABSENT for name in row.hmp.split()} <= known


def test_every_row_is_said_of_one_command_and_in_short() -> None:
    names = [row.qmp for row in ABSENT if row.qmp]
    assert len(names) == len(set(names))
    assert all("\n" not in row.fails for row in ABSENT)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sendkey a", "Error: this machine has no screen, keyboard or mouse"),
        ("info mtree", "this machine has no memory"),
        ("set_link n0 off", "Error: Device 'n0' not found"),
        ("info cpus", ""),
    ],
)
def test_a_target_without_a_monitor_is_answered_for(line: str, said: str) -> None:
    person = FakePerson(interactive=False, comments=False)
    asyncio.run(Monitor(Registry()).run_line(line, person))
    assert person.said() == said


def test_a_target_with_a_monitor_gets_the_line() -> None:
    async def run_line(command_line: str) -> str:
        return f"ran {command_line}\r\n"

    registry = Registry()
    registry.add("human-monitor-command", run_line)
    person = FakePerson(interactive=False, comments=False)
    asyncio.run(Monitor(registry).run_line("sendkey ctrl-alt-nosuch", person))
    assert person.said() == "ran sendkey ctrl-alt-nosuch"

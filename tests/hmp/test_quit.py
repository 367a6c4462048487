"""What a person decides: to quit during a migration, to keep or release disks, to run on all the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.monitor import Monitor
from tests.hmp.fake import FakeMachine, FakePerson

WHY = "it is not known whether the destination runs"


class Deciding(FakePerson):
    """Answers what is asked, and notes the question."""

    def __init__(self, answer: bool, interactive: bool = True) -> None:
        super().__init__(interactive)
        self.answer = answer
        self.asked: list[str] = []

    async def ask(self, question: str) -> bool:
        self.asked.append(question)
        return self.answer


def run(machine: FakeMachine, line: str, person: FakePerson) -> tuple[bool, str]:
    good = asyncio.run(Monitor(machine.registry).run_line(line, person))
    return good, person.said()


@pytest.mark.parametrize(
    ("info", "question"),
    [
        ({}, None),
        *(({"status": status}, None) for status in ("none", "completed", "failed", "cancelled")),
        *(
            ({"status": status}, "A migration is under way: quit and cancel it?")
            for status in ("setup", "active", "pre-switchover")
        ),
        ({"status": "device"}, "Quit all the same?"),
        ({"status": "device", "error-desc": WHY}, "Quit all the same?"),
    ],
)
def test_quitting_asks_somebody_at_a_terminal_and_nobody_else(
    info: dict[str, Any], question: str | None
) -> None:
    for answer in (True, False):
        machine = FakeMachine()
        machine.migration = [info]
        person = Deciding(answer)
        good, said = run(machine, "quit", person)
        assert person.asked == ([] if question is None else [question])
        leaves = answer or question is None
        assert good is leaves
        assert machine.calls == ([("quit", {})] if leaves else [])
        assert ("The migration goes on" in said) is not leaves
        machine, person = FakeMachine(), Deciding(answer, interactive=False)
        machine.migration = [info]
        assert run(machine, "quit", person) == (True, "")
        assert (machine.calls, person.asked) == ([("quit", {})], [])


def test_who_quits_in_doubt_reads_that_the_other_side_may_run() -> None:
    machine, person = FakeMachine(), Deciding(True)
    machine.migration = [{"status": "device", "error-desc": WHY}]
    said = "This side does not know whether the other side runs: migrate_resolve settles that"
    assert run(machine, "quit", person) == (True, said)


def test_cont_forces_when_told_to_and_only_then() -> None:
    forced: list[bool] = []

    async def cont(x_qmon_force: bool | None = None) -> None:
        forced.append(bool(x_qmon_force))

    async def qemus_cont() -> None:
        forced.append(False)

    machine = FakeMachine()
    machine.registry.add("cont", cont)
    assert run(machine, "cont -f", FakePerson()) == (True, "")
    assert run(machine, "c -f", FakePerson()) == (True, "")
    machine.registry.add("cont", qemus_cont)
    assert run(machine, "c", FakePerson()) == (True, "")
    assert forced == [True, True, False]
    good, said = run(machine, "cont -x", FakePerson())
    assert (good, said.splitlines()[0]) == (False, "cont|c: unsupported option -x")


def test_migrate_resolve_says_what_was_decided() -> None:
    decided: list[str] = []

    async def resolve(action: str) -> None:
        decided.append(action)

    machine = FakeMachine()
    assert run(machine, "migrate_resolve keep", FakePerson()) == (
        False,
        "migrate_resolve: this target has no QMP command 'x-qmon-migrate-resolve'",
    )
    machine.registry.add("x-qmon-migrate-resolve", resolve)
    assert run(machine, "migrate_resolve keep", FakePerson()) == (True, "")
    assert run(machine, "migrate_resolve release", FakePerson()) == (True, "")
    assert decided == ["keep", "release"]
    good, said = run(machine, "migrate_resolve", FakePerson())
    assert (good, said.splitlines()[0]) == (False, "migrate_resolve: string expected")

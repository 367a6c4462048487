"""What a person decides: to quit during a migration, to keep or release disks, to run anyway."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.monitor import Monitor
from tests.support.fake_target import Deciding, FakeMachine, FakePerson

WHY = "it is not known whether the destination runs"


def run(machine: FakeMachine, line: str, person: FakePerson) -> tuple[bool, str]:
    good = asyncio.run(Monitor(machine.registry).run_line(line, person))
    return good, person.said()


@pytest.mark.parametrize(
    ("info", "question"),
    [
        ({}, None),
        *(({"status": status}, None) for status in ("none", "completed", "failed", "cancelled")),
        *(({"status": status}, "Quit anyway?") for status in ("setup", "active", "pre-switchover")),
        ({"status": "device"}, "Quit anyway?"),
        ({"status": "device", "error-desc": WHY}, "Quit anyway?"),
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
        assert ("qmon keeps running" in said) is not leaves
        machine, person = FakeMachine(), Deciding(answer, interactive=False)
        machine.migration = [info]
        assert run(machine, "quit", person) == (True, "")
        assert (machine.calls, person.asked) == ([("quit", {})], [])


CANCELLED = "A migration is under way and will be cancelled: 'wait migrate' waits until it ends"
IN_DOUBT = "The migration is in doubt: restart qmon, or use migrate_resolve, to settle it"
ONE, ALL = "1 NBD client uses export 'a'", "3 NBD clients use 2 exports"


@pytest.mark.parametrize(
    ("clients", "info", "named"),
    [
        ((0, 0), {"status": "active"}, [CANCELLED]),
        ((0, 0), {"status": "device", "error-desc": WHY}, [IN_DOUBT]),
        (
            (0, 0),
            {"status": "device"},
            ["The switchover is under way: restart qmon to see its result"],
        ),
        ((1, 0), {"status": "completed"}, [ONE]),
        ((1, 2), {"status": "active"}, [ALL, CANCELLED]),
        ((1, 0), {"status": "device", "error-desc": WHY}, [ONE, IN_DOUBT]),
        ((0, 0), {"status": "completed"}, []),
        (
            (1, 0),
            {"status": "completed", "x-qmon-forwarded": {"clients": 1, "requests": 7, "in-flight": 0}},
            ["1 NBD client uses export 'a', which has moved, through this qmon and will get I/O errors"],
        ),
        (
            (1, 2),
            {"status": "completed", "x-qmon-forwarded": {"clients": 3, "requests": 7, "in-flight": 0}},
            ["3 NBD clients use 2 exports, which have moved, through this qmon and will get I/O errors"],
        ),
        (
            (0, 0),
            {"status": "completed", "x-qmon-forwarded": {"clients": 0, "requests": 7, "in-flight": 0}},
            [],
        ),
        (
            (0, 0),
            {"status": "completed", "x-qmon-forwarded-here": {"clients": 2, "requests": 7, "in-flight": 0}},
            ["2 clients use the disks here from the source and will get I/O errors"],
        ),
    ],
)
def test_who_quits_reads_what_that_cuts_off(
    clients: tuple[int, int], info: dict[str, Any], named: list[str]
) -> None:
    machine = FakeMachine()
    machine.migration = [info]

    async def exports() -> list[dict[str, Any]]:
        moved = {"x-qmon-moved": True} if "x-qmon-forwarded" in info else {}
        counts = zip("ab", clients, strict=True)
        return [{"id": name, "x-qmon-clients": count, **moved} for name, count in counts]

    machine.registry.add("query-block-exports", exports)
    person = Deciding(False)
    assert run(machine, "quit", person) == (
        not named,
        "\n".join([*named, *["qmon keeps running"] * bool(named)]),
    )
    assert person.asked == ["Quit anyway?"] * bool(named)


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

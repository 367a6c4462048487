"""A migration to a file: a question before one is lost, and lines that say who waits until cont."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.monitor import Monitor
from tests.support.fake_target import Deciding, FakeMachine

SENT: dict[str, Any] = {
    "status": "completed",
    "total-time": 100,
    "x-qmon-side": "source",
    "x-qmon-peer": "file:b.qmon",
    "x-qmon-unconfirmed": True,
    "x-qmon-waiting-clients": 2,
}
QUESTION = "'b.qmon' exists, and 8 MiB in it are lost: overwrite it?"
NOTICE = "A file can't answer: at the end this machine stays paused, and its guests wait until 'cont'"


def migrated(line: str, person: Deciding, lost: int) -> tuple[bool, list[str], list[str]]:
    """Whether a line succeeds, what it prints, and which commands change something."""
    machine = FakeMachine()
    machine.migration = [SENT]

    async def query_file(uri: str) -> dict[str, Any]:
        return {"path": uri.removeprefix("file:"), "lost": lost}

    machine.registry.add("x-qmon-query-migrate-file", query_file)
    good = asyncio.run(Monitor(machine.registry).run_line(line, person))
    return good, person.said().splitlines(), [name for name, _ in machine.calls]


@pytest.mark.parametrize(
    ("lost", "interactive", "answer", "asked", "begun"),
    [
        (8 << 20, True, False, [QUESTION], []),
        (8 << 20, True, True, [QUESTION], ["migrate"]),
        (8 << 20, False, False, [], ["migrate"]),
        (0, True, False, [], ["migrate"]),
    ],
)
def test_a_file_is_overwritten_after_a_question_at_a_terminal(
    lost: int, interactive: bool, answer: bool, asked: list[str], begun: list[str]
) -> None:
    person = Deciding(answer, interactive)
    good, said, calls = migrated("migrate blk file:b.qmon", person, lost)
    assert (good, person.asked, calls) == (bool(begun), asked, begun)
    if not begun:
        assert said == ["Nothing was migrated"]


def test_who_waits_is_said_before_and_after() -> None:
    _, said, _ = migrated("migrate blk file:b.qmon", Deciding(answer=True), 0)
    assert said[0] == NOTICE
    assert said[-1] == (
        "Unconfirmed: nobody could confirm it: this machine stays paused with its disks, also after a"
        " restart, and 2 clients wait. 'cont' continues it here"
    )


def test_a_script_is_told_at_the_end_too() -> None:
    _, said, _ = migrated("migrate blk file:b.qmon", Deciding(answer=True, interactive=False), 0)
    assert said[-1].startswith("Unconfirmed: ")

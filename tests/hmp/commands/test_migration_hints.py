"""What follows the error of a migration's line: what to type instead."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.errors import CommandError
from qmon.hmp.monitor import Monitor
from tests.support.fake_target import FakeMachine, Hinted

UNDER_WAY = "There's a migration process in progress"
PAUSED = {"status": "postcopy-paused", "x-qmon-side": "source", "x-qmon-peer": "tcp:there:4444"}
NAME = "multifd-compression"


@pytest.mark.parametrize(
    ("line", "error", "hint"),
    [
        (
            "migrate blk tcp:there:4444",
            UNDER_WAY,
            "The migration to tcp:there:4444 is paused: 'migrate -r URI' continues it, migrate_cancel ends"
            " it",
        ),
        (
            "migrate_set_capability auto-converge on",
            UNDER_WAY,
            "A capability is set before migrate. What can be set now: 'migrate_set_parameter"
            " x-qmon-copy-mode write-blocking'",
        ),
        ("migrate_set_capability multifd on", UNDER_WAY, "A capability is set before migrate"),
        (
            f"migrate_set_parameter {NAME} lz4",
            f"Parameter '{NAME}' does not accept value 'lz4'",
            f"{NAME} takes none, zlib or zstd",
        ),
    ],
)
def test_an_error_is_followed_by_what_to_type(line: str, error: str, hint: str) -> None:
    machine, person = FakeMachine(), Hinted()
    machine.migration = [PAUSED]

    async def refuse(**given: Any) -> None:
        raise CommandError(error)

    async def settings() -> dict[str, Any]:
        return {"parameters": [{"name": NAME, "values": ["none", "zlib", "zstd"]}]}

    for name in ("migrate", "migrate-set-capabilities", "migrate-set-parameters"):
        machine.registry.add(name, refuse)
    machine.registry.add("x-qmon-query-migrate-settings", settings)
    assert not asyncio.run(Monitor(machine.registry).run_line(line, person))
    assert person.said() == f"Error: {error}"
    assert person.hints == [hint]

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.monitor import Monitor
from tests.support.fake_target import FakeMachine, FakePerson

ACTIVE: dict[str, Any] = {
    "status": "active",
    "total-time": 1200,
    "expected-downtime": 300,
    "setup-time": 7,
    "disk": {"transferred": 3 << 20, "remaining": 5 << 20, "total": 8 << 20},
}
GLOBALS = """\
globals:
store-global-state: on
only-migratable: off
send-configuration: on
send-section-footer: on
decompress-error-check: on
clear-bitmap-shift: 18
"""


def run(machine: FakeMachine, line: str, person: FakePerson) -> tuple[bool, str]:
    good = asyncio.run(Monitor(machine.registry).run_line(line, person))
    return good, person.said()


def test_the_lines_of_the_announcement_reach_qmp() -> None:
    machine = FakeMachine()
    for line in (
        "migrate -d tcp:0:4444          # for ordinary live migration",
        "migrate -d blk tcp:0:4444      # for live migration with complete storage copy",
        "migrate -d blk inc tcp:0:4444  # with incremental storage copy, storage is cow based",
    ):
        assert run(machine, line, FakePerson()) == (True, "")
    uri = {"uri": "tcp:0:4444"}
    assert machine.calls == [
        ("migrate", uri),
        ("migrate", {**uri, "blk": True}),
        ("migrate", {**uri, "blk": True, "inc": True}),
    ]


def test_without_d_the_progress_is_shown_until_the_end() -> None:
    machine = FakeMachine()
    half = {**ACTIVE, "disk": {"transferred": 6 << 20, "remaining": 2 << 20, "total": 8 << 20}}
    end = {**half, "status": "completed", "total-time": 1260, "downtime": 4}
    machine.migration = [{"status": "setup"}, ACTIVE, half, end]
    person = FakePerson()
    summary = "Migrated 6 MiB in 1.3 s, downtime 4 ms"
    assert run(machine, "migrate blk tcp:0:4444", person) == (True, summary)
    assert person.shown.updates == [(3 << 20, 8 << 20), (6 << 20, 8 << 20)]
    assert person.shown.closed == 1


@pytest.mark.parametrize("interactive", [True, False])
def test_a_long_wait_says_what_ctrl_c_does(monkeypatch: pytest.MonkeyPatch, interactive: bool) -> None:
    monkeypatch.setattr("qmon.hmp.commands.migration.NOTICE_SECONDS", 0.0)
    machine = FakeMachine()
    machine.migration = [ACTIVE, ACTIVE, ACTIVE, {"status": "completed"}]
    _, said = run(machine, "migrate blk tcp:0:4444", FakePerson(interactive=interactive))
    assert said.count("Ctrl-C returns to the prompt; the migration goes on") == interactive


@pytest.mark.parametrize("interactive", [True, False])
@pytest.mark.parametrize("detach", ["-d ", ""])
def test_what_stays_behind_is_said_first_and_at_the_end(detach: str, interactive: bool) -> None:
    machine = FakeMachine()
    left = {"x-qmon-stays-behind": [{"drive": "d0", "snapshots": 1, "bitmaps": 0}]}
    machine.migration = [{**ACTIVE, **left}, {**ACTIVE, **left, "status": "completed"}]
    good, said = run(machine, f"migrate {detach}blk tcp:0:4444", FakePerson(interactive=interactive))
    lines = said.splitlines()
    assert good
    assert lines.pop(0) == "warning: drive 'd0': 1 internal snapshot is not copied"
    assert lines.pop(-1) == "drive 'd0': 1 internal snapshot was not copied" if not detach else not lines
    assert len(lines) == (interactive and not detach)


@pytest.mark.parametrize(
    ("end", "said"),
    [
        ({"status": "failed", "error-desc": "Connection refused"}, "Error: Connection refused"),
        ({"status": "failed"}, "Error: the migration failed"),
        ({"status": "cancelled"}, "Error: the migration was cancelled"),
    ],
)
def test_a_migration_that_fails_is_a_line_that_fails(end: dict[str, Any], said: str) -> None:
    machine = FakeMachine()
    machine.migration = [ACTIVE, end]
    assert run(machine, "migrate -b tcp:0:4444", FakePerson()) == (False, said)
    machine.migration = [ACTIVE, end]
    assert run(machine, "migrate -d -b tcp:0:4444", FakePerson()) == (False, said)


def test_on_a_socket_detached_means_at_once() -> None:
    machine = FakeMachine()
    machine.migration = [{"status": "failed", "error-desc": "Connection refused"}]
    assert run(machine, "migrate -d tcp:0:4444", FakePerson(interactive=False)) == (True, "")


def test_a_detached_migration_that_lives_on_is_not_waited_for() -> None:
    async def timed() -> float:
        started = asyncio.get_running_loop().time()
        assert await Monitor(machine.registry).run_line("migrate -d tcp:0:4444", FakePerson())
        return asyncio.get_running_loop().time() - started

    machine = FakeMachine()
    machine.migration = [ACTIVE]
    assert asyncio.run(timed()) < 2


def test_interrupting_the_wait_leaves_the_migration_alone() -> None:
    async def interrupt() -> None:
        task = asyncio.create_task(Monitor(machine.registry).run_line("migrate tcp:0:4444", person))
        await asyncio.wait_for(person.shown.updated.wait(), 10)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    machine = FakeMachine()
    machine.migration = [ACTIVE]
    person = FakePerson()
    asyncio.run(interrupt())
    assert "continues in the background" in person.said()
    assert person.shown.closed == 1
    assert [name for name, _ in machine.calls] == ["migrate"]


def test_refusals_incoming_and_cancel_go_the_same_way() -> None:
    machine = FakeMachine()
    said = "Error: Parameter 'uri' expects a valid migration protocol"
    assert run(machine, "migrate -d blk", FakePerson()) == (False, said)
    assert run(machine, "migrate_incoming tcp:0:4444", FakePerson()) == (True, "")
    assert run(machine, "migrate_cancel", FakePerson()) == (True, "")
    assert machine.calls == [("migrate-incoming", {"uri": "tcp:0:4444"}), ("migrate_cancel", {})]


@pytest.mark.parametrize(
    ("info", "text"),
    [
        ({}, ""),
        (
            ACTIVE,
            "Migration status: active\ntotal time: 1200 ms\nexpected downtime: 300 ms\nsetup: 7 ms\n"
            "transferred disk: 3072 kbytes\nremaining disk: 5120 kbytes\ntotal disk: 8192 kbytes\n",
        ),
        (
            {"status": "failed", "error-desc": "no route"},
            "Migration status: failed (no route)\ntotal time: 0 ms\n",
        ),
        (
            {"status": "completed", "total-time": 90, "downtime": 4, "setup-time": 1},
            "Migration status: completed\ntotal time: 90 ms\ndowntime: 4 ms\nsetup: 1 ms\n",
        ),
        (
            {"blocked-reasons": ["d0 is read", "d1 too"]},
            "Outgoing migration blocked:\n  d0 is read\n  d1 too\n",
        ),
        (
            {
                "x-qmon-stays-behind": [
                    {"drive": "d0", "snapshots": 3, "bitmaps": 2},
                    {"drive": "d0", "snapshots": 0, "bitmaps": 1, "backing-image": "base.qcow2"},
                ]
            },
            "drive 'd0': 3 internal snapshots and 2 dirty bitmaps are not copied\n"
            "drive 'd0': 1 dirty bitmap of its backing image 'base.qcow2' is not copied\n",
        ),
        (
            {
                "x-qmon-disks": [
                    {"drive": "d0", "transferred": 1024, "remaining": 2048, "total": 3072},
                    {"drive": "d1", "remaining": 0, "total": 4096},
                ]
            },
            "disk 'd0': transferred 1, remaining 2, total 3 kbytes\ndisk 'd1': remaining 0, total 4 kbytes\n",
        ),
    ],
)
def test_info_migrate_is_laid_out_as_qemus(info: dict[str, Any], text: str) -> None:
    machine = FakeMachine()
    machine.migration = [info]
    assert run(machine, "info migrate -a", FakePerson()) == (True, (GLOBALS + text).removesuffix("\n"))

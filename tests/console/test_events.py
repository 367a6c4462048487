"""Events above the line being typed, and none when they are not wanted."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from qmon.console.notices import announce, news
from qmon.qmp.registry import Registry
from qmon.qmp.target import Event
from tests.console.screens import RAN, trigger
from tests.support.terminal import Terminal

CAME = "An NBD client (127.0.0.1:5000) connected to export 'd0'\n"
BROKE = "I/O error: a write on 'd0' failed: Input/output error\n"


def test_clients_and_io_errors_appear_above_the_line_being_typed(console: Terminal, tmp_path: Path) -> None:
    console.type("info stus")
    console.press("Left", "Left")
    console.wait_for(r"^\(qemu\) info stus$")
    trigger(tmp_path, "client")
    # a menu of completions may be open below the line
    console.wait_until(lambda screen: f"hello\n{CAME}(qemu) info stus" in screen, CAME)
    trigger(tmp_path, "broken")
    console.wait_until(lambda screen: f"hello\n{CAME}{BROKE}(qemu) info stus" in screen, BROKE)
    console.type("at\r")
    console.wait_for_end(f"{CAME}{BROKE}{RAN}(qemu) ")


def test_events_are_told_or_not(console: Terminal, tmp_path: Path) -> None:
    console.type("events off\r")
    console.wait_for_end("(qemu) events off\n(qemu) ")
    trigger(tmp_path, "client")
    console.wait_until(lambda screen: not (tmp_path / "client").exists(), "a client")
    console.type("events\r")
    console.wait_for_end("hello\n(qemu) events off\n(qemu) events\nevents: off\n(qemu) ")
    console.type("events on\r")
    console.wait_for_end("(qemu) events on\n(qemu) ")
    trigger(tmp_path, "client")
    console.wait_for_end(f"{CAME}(qemu) ")


@pytest.mark.parametrize(
    ("name", "data", "said"),
    [
        (
            "MIGRATION",
            {"status": "pre-switchover"},
            "The migration waits before the switchover: 'migrate_continue pre-switchover' continues it",
        ),
        ("MIGRATION", {"status": "active"}, None),
        (
            "X_QMON_MIGRATION_NOT_CONVERGING",
            {"reason": "guests write 30 MiB/s", "parameter": "max-bandwidth", "value": 45 << 20},
            "The migration does not converge: guests write 30 MiB/s\n"
            "'migrate_set_parameter max-bandwidth 45M' would help; so would 'migrate_set_parameter"
            " x-qmon-copy-mode write-blocking', or 'migrate_set_capability auto-converge on' before it is"
            " begun again",
        ),
        ("BLOCK_JOB_COMPLETED", {"device": "d0", "type": "mirror"}, "Block job 'd0' completed"),
        ("BLOCK_JOB_COMPLETED", {"device": "d0", "error": "No space"}, "Block job 'd0' failed: No space"),
        ("BLOCK_JOB_READY", {"device": "d0"}, "Block job 'd0' is ready: 'block_job_complete' ends it"),
        (
            "X_QMON_NBD_CLIENT_DISCONNECTED",
            {"export": "e", "address": ""},
            "An NBD client disconnected from export 'e'",
        ),
        ("BLOCK_IO_ERROR", {}, "I/O error: a request on 'a drive' failed: no reason given"),
        ("RTC_CHANGE", {"offset": 1}, None),
        ("BLOCK_JOB_READY", {"device": "qmon-m0-4f2e1a"}, None),
        ("MIGRATION", {"status": "pre-switchover", "x-qmon-waits": False}, None),
        ("X_QMON_MIGRATION_NOTICE", {"message": "The copy waits\x1b[2J"}, "The copy waits\\x1b[2J"),
    ],
)
def test_an_event_is_a_sentence(name: str, data: dict[str, Any], said: str | None) -> None:
    assert news(Event(name, data)) == said


@pytest.mark.parametrize(("running", "does"), [(True, "runs"), (False, "is paused")])
def test_disks_that_the_operator_keeps_are_no_failure(running: bool, does: str) -> None:
    registry, told = Registry(), list[str]()

    async def query_migrate() -> dict[str, Any]:
        return {"status": "failed", "x-qmon-resolved": "keep", "error-desc": "decided"}

    async def query_status() -> dict[str, Any]:
        return {"status": "running" if running else "paused", "running": running}

    registry.add("query-migrate", query_migrate)
    registry.add("query-status", query_status)
    asyncio.run(announce("failed", registry, told.append))
    assert told == [f"The disks stay here, and this machine {does}"]

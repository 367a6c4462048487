"""What ``info nbd`` shows of exports and clients, on embedded machines and on other targets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.hmp.commands.nbd_info import export_lines
from qmon.hmp.monitor import Monitor
from qmon.notation.units import GIB, MIB
from qmon.qmp.registry import Registry
from tests.support.fake_target import NODE, FakeMachine, FakePerson

BUSY = {
    "address": "127.0.0.1:51234",
    "seconds": 182,
    "rd_operations": 3072,
    "rd_bytes": 12 * MIB,
    "wr_operations": 6000,
    "wr_bytes": 3 * GIB // 2,
    "flush_operations": 12,
}
IDLE = {**dict.fromkeys(BUSY, 0), "address": "process 4711"}
EXPORT = {
    "node-name": NODE["node-name"],
    "id": "d0",
    "type": "nbd",
    "shutting-down": False,
    "x-qmon-name": "disk",
    "x-qmon-writable": True,
    "x-qmon-clients": 2,
    "x-qmon-connections": [BUSY, IDLE],
}


def run(registry: Registry, exports: list[dict[str, Any]], server: dict[str, Any] | None = None) -> str:
    async def query_exports() -> list[dict[str, Any]]:
        return exports

    async def query_server() -> dict[str, Any]:
        assert server is not None
        return server

    registry.add("query-block-exports", query_exports)
    if server is not None:
        registry.add("x-qmon-query-nbd-server", query_server)
    person = FakePerson(interactive=False)
    asyncio.run(Monitor(registry).run_line("info nbd", person))
    return person.said()


def test_each_client_is_shown_with_what_it_has_done() -> None:
    where = {"running": True, "address": {"type": "inet", "host": "127.0.0.1", "port": "10809"}}
    assert run(FakeMachine().registry, [EXPORT], where) == (
        "NBD server: tcp:127.0.0.1:10809\n"
        "Export 'disk': drive 'd0', writable, 2 clients\n"
        "  client           connected    read  reads  written  writes  flushes\n"
        "  127.0.0.1:51234  3 min 2 s  12 MiB   3072  1.5 GiB    6000       12\n"
        "  process 4711           0 s     0 B      0      0 B       0        0"
    )


def test_a_server_that_does_not_run_says_how_it_is_started() -> None:
    said = run(FakeMachine().registry, [], {"running": False})
    assert said == "The NBD server does not run: 'nbd_server_start ADDRESS' starts it"


def test_an_export_whose_disk_has_moved_says_so() -> None:
    gone = {**EXPORT, "x-qmon-moved": True, "x-qmon-clients": 0, "x-qmon-connections": []}
    said = run(FakeMachine().registry, [gone], {"running": False})
    assert said.splitlines()[-1] == (
        "Export 'disk': drive 'd0', the disk has moved to another host, clients are refused"
    )


def test_a_target_that_counts_no_clients_shows_its_exports() -> None:
    """A QEMU, or a storage daemon, which has nodes but no drives."""
    theirs = {name: value for name, value in EXPORT.items() if not name.startswith("x-qmon-")}
    other = {**theirs, "id": "fuse", "type": "fuse"}
    going = {**theirs, "id": "old", "shutting-down": True}
    assert run(Registry(), [going, other, theirs]) == (
        "Export 'd0': node '#block001'\nExport 'old': node '#block001', being removed"
    )
    assert run(Registry(), []) == "There are no NBD exports"


def test_a_client_can_not_write_on_the_terminal() -> None:
    evil = {**EXPORT, "x-qmon-name": "a\x1b[2J\nb", "x-qmon-connections": [{**IDLE, "address": "\x9bc\n"}]}
    said = run(FakeMachine().registry, [evil], {"running": False})
    assert "Export 'a\\x1b[2J\\x0ab'" in said
    assert "  \\x9bc\\x0a " in said


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_table_is_as_wide_as_the_terminal(columns: int) -> None:
    far = {**BUSY, "address": f"[{'fe80:' * 8}%eth0]:51234", "wr_operations": 1 << 40}
    lines = list(export_lines({**EXPORT, "x-qmon-connections": [far, IDLE]}, {}, columns))
    assert all(len(line) < columns for line in lines)
    assert lines[2].split()[0].startswith("[fe80:")
    assert "12 MiB" in lines[2]

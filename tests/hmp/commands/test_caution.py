"""What is asked before something is destroyed: of a person at a terminal, and of nobody else."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from qmon.errors import CommandError
from qmon.hmp.monitor import Monitor
from tests.support.fake_target import NODE, Deciding, FakeMachine, Hinted


def machine_with_clients(clients: int, status: str = "running") -> FakeMachine:
    """Two exports of d0, all clients on the second."""
    machine = FakeMachine()
    exports = [
        {"id": name, "node-name": NODE["node-name"], "x-qmon-name": name, "x-qmon-clients": count}
        for name, count in (("d0", 0), ("again", clients))
    ]

    async def query_exports() -> list[dict[str, Any]]:
        return exports

    async def block_resize(device: str, size: int) -> None:
        machine.calls.append(("block_resize", {"device": device, "size": size}))

    async def query_status() -> dict[str, Any]:
        return {"status": status, "running": False}

    async def cont(x_qmon_force: bool | None = None) -> None:
        machine.calls.append(("cont", {}))

    machine.registry.add("query-block-exports", query_exports)
    machine.registry.add("block_resize", block_resize)
    machine.registry.add("query-status", query_status)
    machine.registry.add("cont", cont)
    return machine


@pytest.mark.parametrize(
    ("line", "clients", "question", "otherwise"),
    [
        ("drive_del d0", 2, "2 NBD clients use 'd0': remove it anyway?", "'d0' was not removed"),
        ("drive_del d0", 1, "1 NBD client uses 'd0': remove it anyway?", "'d0' was not removed"),
        ("drive_del d0", 0, "", ""),
        (
            "block_resize d0 1M",
            0,
            "'d0' has 16 MiB; data after 1 MiB will be lost: shrink it anyway?",
            "'d0' was not resized",
        ),
        ("block_resize d0 16M", 0, "", ""),
        ("block_resize d0 1G", 0, "", ""),
        (
            "nbd_server_stop",
            1,
            "1 NBD client uses the NBD server: stop it anyway?",
            "The NBD server was not stopped",
        ),
        ("nbd_server_stop", 0, "", ""),
        (
            "nbd_server_remove -f again",
            3,
            "3 NBD clients use export 'again': remove it anyway?",
            "export 'again' was not removed",
        ),
        ("nbd_server_remove -f d0", 3, "", ""),
        ("nbd_server_remove again", 3, "", ""),
    ],
)
def test_a_person_is_asked_before_something_is_lost(
    line: str, clients: int, question: str, otherwise: str
) -> None:
    for interactive in (True, False):
        for answer in (True, False):
            machine, person = machine_with_clients(clients), Deciding(answer, interactive)
            good = asyncio.run(Monitor(machine.registry).run_line(line, person))
            is_asked = bool(question) and interactive
            assert person.asked == [question] * is_asked
            refused = is_asked and not answer
            assert good is not refused
            assert bool(machine.calls) is not refused
            assert person.said() == (otherwise if refused else "")


@pytest.mark.parametrize(("status", "asks"), [("postmigrate", True), ("paused", False)])
def test_running_disks_that_were_handed_over_is_asked_about(status: str, asks: bool) -> None:
    machine, person = machine_with_clients(0, status), Deciding(False)
    assert asyncio.run(Monitor(machine.registry).run_line("cont -f", person)) is not asks
    assert bool(person.asked) is asks
    assert bool(machine.calls) is not asks


@pytest.mark.parametrize("reason", ["", "it is not known whether the destination runs"])
def test_a_cont_in_doubt_names_the_way_out(reason: str) -> None:
    machine, person = FakeMachine(), Hinted()

    async def cont() -> None:
        raise CommandError("Migration is not finalized yet")

    async def query_migrate() -> dict[str, Any]:
        return {"status": "device", **({"error-desc": reason} if reason else {})}

    machine.registry.add("cont", cont)
    machine.registry.add("query-migrate", query_migrate)
    assert not asyncio.run(Monitor(machine.registry).run_line("cont", person))
    assert person.said() == "Error: Migration is not finalized yet"
    assert ["migrate_resolve keep" in hint for hint in person.hints] == [True] * bool(reason)


REFUSED = "Failed to connect to 'there:4444': Connection refused"
POSTMIGRATE = "Can't migrate the vm that was paused due to previous migration"


@pytest.mark.parametrize(
    ("line", "error", "status", "hint"),
    [
        (
            "migrate tcp:there:4444",
            REFUSED,
            "running",
            "Is a qmon with -incoming and this address running there?",
        ),
        (
            "migrate tcp:there:4444",
            POSTMIGRATE,
            "postmigrate",
            "The disks have moved to tcp:host2:4444: if the destination does not run, cont -f runs this"
            " machine with the old disks",
        ),
        ("migrate tcp:there:4444", "There is a migration process in progress", "running", None),
        (
            "nbd_server_start 41900",
            "error parsing address '41900'",
            "running",
            "Write 0.0.0.0:41900, or 127.0.0.1:41900 for this host alone",
        ),
        ("nbd_server_start host", "error parsing address 'host'", "running", "Write HOST:PORT or unix:PATH"),
        (
            "nbd_server_remove d0",
            "export 'd0' still in use",
            "running",
            "Use nbd_server_remove -f d0 to disconnect its clients",
        ),
        ("nbd_server_remove -f d0", "export 'd0' still in use", "running", None),
    ],
)
def test_below_an_error_is_what_to_do(line: str, error: str, status: str, hint: str | None) -> None:
    machine, person = FakeMachine(), Hinted()

    async def migrate(uri: str) -> None:
        raise CommandError(error)

    async def query_status() -> dict[str, Any]:
        return {"status": status, "running": status == "running"}

    async def query_migrate() -> dict[str, Any]:
        return {"status": "completed", "x-qmon-side": "source", "x-qmon-peer": "tcp:host2:4444"}

    async def remove(name: str, mode: str) -> None:
        raise CommandError(error)

    machine.registry.add("migrate", migrate)
    machine.registry.add("query-status", query_status)
    machine.registry.add("query-migrate", query_migrate)
    machine.registry.add("nbd-server-remove", remove)
    assert not asyncio.run(Monitor(machine.registry).run_line(line, person))
    assert person.said() == f"Error: {error}"
    assert person.hints == ([] if hint is None else [hint])

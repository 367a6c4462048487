"""What a migration may leave in a QEMU."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import CommandError
from tests.support.qmp_client import QmpClient
from tests.support.vms.machine import Machine

Standing = Mapping[str, frozenset[str]]
"""What stands in a QEMU: for each kind of thing a line for each that there is."""

_ASKED: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "job": ("query-jobs", lambda job: job["id"]),
    "block job": ("query-block-jobs", lambda job: job["device"]),
    "export": ("query-block-exports", lambda export: export["id"]),
    "node": ("query-named-block-nodes", lambda node: node["node-name"]),
    "character device": ("query-chardev", lambda chardev: chardev["label"]),
    "capability": (
        "query-migrate-capabilities",
        lambda capability: f"{capability['capability']} {capability['state']}",
    ),
}


def standing(machine: Machine) -> Standing:
    """Ask a QEMU for all that a migration may leave. An NBD server that runs is stopped by that."""
    qmp = machine.look
    found = {kind: frozenset(map(line, qmp.run(query))) for kind, (query, line) in _ASKED.items()}
    found["parameter"] = frozenset(f"{name} {value}" for name, value in _parameters(qmp).items())
    found["object"] = frozenset(each["name"] for each in qmp.run("qom-list", path="/objects"))
    found["bitmap"] = frozenset(_bitmaps(qmp))
    found["socket"] = frozenset(f"number {number}" for number in range(1, machine.sockets() + 1))
    found["server"] = frozenset(_server(qmp))
    return found


def _parameters(qmp: QmpClient) -> dict[str, Any]:
    parameters: dict[str, Any] = qmp.run("query-migrate-parameters")
    return parameters


def _bitmaps(qmp: QmpClient) -> list[str]:
    nodes = qmp.run("query-named-block-nodes")
    return [
        f"{bitmap.get('name')} of {node['node-name']}"
        for node in nodes
        for bitmap in node.get("dirty-bitmaps", [])
    ]


def _server(qmp: QmpClient) -> list[str]:
    with contextlib.suppress(CommandError):  # "NBD server not running"
        qmp.run("nbd-server-stop")
        return ["NBD"]
    return []


def leftovers(machine: Machine, before: Standing, patience: float) -> list[str]:
    """Return a line for all that differs from before; what ends in its own time is waited for."""
    deadline = time.monotonic() + patience
    server: frozenset[str] = frozenset()
    while True:
        now = standing(machine)
        server |= now["server"]
        lines = _differences(machine.name, before, {**now, "server": server})
        if not lines or time.monotonic() > deadline:
            return lines
        time.sleep(0.05)


def _differences(name: str, before: Standing, now: Standing) -> list[str]:
    lines = []
    for kind, found in now.items():
        lines += [f"{name}: {kind} {each} is left" for each in sorted(found - before[kind])]
        if kind != "socket":  # a console that was connected then may have left
            lines += [f"{name}: {kind} {each} has gone" for each in sorted(before[kind] - found)]
    return lines

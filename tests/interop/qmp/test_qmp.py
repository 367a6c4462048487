"""The same QMP messages to a real QEMU and to qmon: where both can be in a situation, they say the same."""

from __future__ import annotations

import contextlib
import re
import socket
from typing import Any

import pytest

from tests.support.images import MIB
from tests.support.qmp_both import Both
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE

NODE = re.compile(r"#block\d+")


def rest(client: QmpClient) -> list[str]:
    """The names of all events up to the end of the connection."""
    with contextlib.suppress(ConnectionError):  # QEMU may leave without reading all
        while True:
            client.answer()
    return client.event_names


def test_messages_before_and_around_the_negotiation(fresh: Both) -> None:
    assert fresh.qemu.greeting["QMP"].keys() == fresh.qmon.greeting["QMP"].keys()
    fresh.agree_on("query-status")
    fresh.agree_on("no-such-command")
    fresh.agree_on("qmp_capabilities", x=1)
    fresh.agree_on("qmp_capabilities", enable="oob")
    fresh.agree_on("qmp_capabilities", enable=[5])
    fresh.agree({"execute": "qmp_capabilities", "id": 7})
    fresh.agree_on("qmp_capabilities")


@pytest.mark.parametrize(
    "message",
    [
        {},
        {"execute": None},
        {"execute": 5, "id": "x"},
        {"arguments": {}},
        {"execute": "query-status", "arguments": []},
        {"execute": "query-status", "more": 1, "id": [1, {"a": None}]},
        {"execute": "query-status", "id": 1.5},
        {"execute": "query-status", "arguments": {"x": 1}},
        {"execute": "no-such-command", "id": "x"},
        "[]",
        "5",
        '"text"',
        "null",
    ],
    ids=str,
)
def test_what_is_said_of_a_message(both: Both, message: Any) -> None:
    both.agree(message)


def test_what_is_said_of_arguments(both: Both) -> None:
    both.agree_on("nbd-server-add")
    both.agree_on("nbd-server-add", device=5)
    both.agree_on("nbd-server-add", device="d0", writable="yes")
    both.agree_on("nbd-server-add", device="d0", more=1)
    both.agree_on("nbd-server-remove", name="x", mode="soft")
    both.agree_on("block-export-add", type="other", id="x", node_name="x")
    both.agree_on("nbd-server-start")
    both.agree_on("nbd-server-start", addr=5)
    both.agree_on("nbd-server-start", addr={})
    address = {"type": "unix", "data": {"path": str(both.folder / "unused")}}
    for count in (-1, 1 << 32, "1"):
        both.agree_on("nbd-server-start", addr=address, max_connections=count)
    both.agree_on("migrate")
    both.agree_on("migrate", uri=5)


def test_the_nbd_server_in_every_state(fresh: Both) -> None:
    fresh.negotiate()
    fresh.agree_on("nbd-server-add", device="d0")
    fresh.agree_on("nbd-server-add", device="nope")
    fresh.agree_on("nbd-server-stop")
    fresh.agree_on("nbd-server-remove", name="d0")
    fresh.agree_on("block-export-del", id="d0")
    fresh.agree_on("query-block-exports")
    missing = {"type": "unix", "data": {"path": "/no/such/folder/socket"}}
    fresh.agree_on("nbd-server-start", addr=missing)
    for side, name in ((fresh.qemu, "qemu"), (fresh.qmon, "qmon")):
        address = {"type": "unix", "data": {"path": str(fresh.folder / f"{name}.nbd")}}
        assert side.ask("nbd-server-start", {"addr": address}) == {"return": {}}
    fresh.agree_on("nbd-server-start", addr=missing)
    fresh.agree_on("nbd-server-add", device="nope")
    fresh.agree_on("nbd-server-add", device="d0", name="")
    fresh.agree_on("nbd-server-add", device="d0", name="a b")
    fresh.agree_on("nbd-server-add", device="d0", writable=True)
    fresh.agree_on("nbd-server-add", device="d0")
    fresh.agree_on("nbd-server-add", device="ro0", name="d0")
    fresh.agree_on("nbd-server-add", device="ro0", writable=True)
    fresh.agree_on("nbd-server-remove", name="nope")
    fresh.agree_on("block-export-del", id="nope")
    fresh.agree_on("nbd-server-remove", name="ro0")
    fresh.agree_on("block-export-del", id="d0")
    fresh.agree_on("block-export-del", id="d0")
    fresh.agree_on("query-block-exports")
    fresh.agree_on("nbd-server-stop")
    fresh.agree_on("nbd-server-stop")


def test_exports_of_nodes(fresh: Both) -> None:
    fresh.negotiate()
    for side, name in ((fresh.qemu, "qemu"), (fresh.qmon, "qmon")):
        address = {"type": "unix", "data": {"path": str(fresh.folder / f"{name}.nbd")}}
        assert side.ask("nbd-server-start", {"addr": address}) == {"return": {}}
        nodes = {
            entry["device"]: entry["inserted"]["node-name"] for entry in side.ask("query-block")["return"]
        }
        assert all(NODE.fullmatch(node) for node in nodes.values())

        def add(**arguments: Any) -> Any:
            named = {"type": "nbd", **{key.replace("_", "-"): value for key, value in arguments.items()}}
            return side.ask("block-export-add", named)  # noqa: B023  # called within the same round

        assert add(id="e0", node_name=nodes["d0"], name="disk", writable=True) == {"return": {}}
        assert [
            add(id="e0", node_name=nodes["d0"])["error"]["desc"],
            add(id="e 1", node_name=nodes["d0"])["error"]["desc"],
            add(id="e1", node_name=nodes["ro0"], writable=True)["error"]["desc"],
            add(id="e1", node_name=nodes["ro0"], name="disk")["error"]["desc"],
        ] == [
            "Block export id 'e0' is already in use",
            "Invalid block export id",
            "Cannot export read-only node as writable",
            "NBD server already has export named 'disk'",
        ]
        (shown,) = side.ask("query-block-exports")["return"]
        assert (shown["id"], shown["type"], shown["node-name"]) == ("e0", "nbd", nodes["d0"])


def test_what_is_said_of_migrations_and_their_parameters(fresh: Both) -> None:
    fresh.negotiate()
    fresh.agree_on("query-migrate")
    for uri in ("", "nonsense", "nonsense:x", "tcp:", "tcp:x", "tcp:0"):
        fresh.agree_on("migrate", uri=uri)
    fresh.agree_on("migrate", uri="tcp:127.0.0.1:1", resume=True)
    fresh.agree_on("migrate-incoming", uri="tcp:127.0.0.1:1")
    fresh.agree_on("migrate_cancel")
    for value in (1 << 64, (1 << 64) - 1, 0, 1.5, "1", 5 * MIB):
        fresh.agree_on("migrate-set-parameters", max_bandwidth=value)
    for value in (-1, 2_000_001, 2_000_000, 1 << 64, 0, 250):
        fresh.agree_on("migrate-set-parameters", downtime_limit=value)
    fresh.agree_on("migrate-set-parameters", downtime_limit=100, max_bandwidth="1")
    fresh.agree_on("migrate-set-parameters", no_such=1)
    theirs, ours = (side.ask("query-migrate-parameters")["return"] for side in (fresh.qemu, fresh.qmon))
    for name in ("max-bandwidth", "downtime-limit"):
        assert ours[name] == theirs[name]


def test_stop_and_cont(fresh: Both) -> None:
    fresh.negotiate()
    for command in ("query-status", "stop", "stop", "query-status", "cont", "cont", "query-status", "stop"):
        fresh.agree_on(command)
    assert fresh.qmon.event_names == fresh.qemu.event_names == ["STOP", "RESUME", "STOP"]


def test_quit(fresh: Both) -> None:
    fresh.negotiate()
    fresh.agree_on("quit")
    assert rest(fresh.qmon) == rest(fresh.qemu) == ["SHUTDOWN"]
    assert fresh.process.process.wait(PATIENCE) == 0


def test_addresses_where_nobody_can_listen(fresh: Both) -> None:
    fresh.negotiate()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        for host, port in (("127.0.0.1", str(taken.getsockname()[1])), ("192.0.2.1", "10809")):
            fresh.agree_on("nbd-server-start", addr={"type": "inet", "data": {"host": host, "port": port}})
    fresh.agree_on("nbd-server-start", addr={"type": "inet", "data": {"host": "127.0.0.1"}})
    fresh.agree_on("nbd-server-start", addr={"type": "unix", "data": {}})


def test_a_machine_that_waits_for_a_migration(waiting: Both) -> None:
    waiting.negotiate()
    for command in ("query-status", "stop", "cont", "query-status"):
        waiting.agree_on(command)
    waiting.agree_on("migrate", uri="tcp:127.0.0.1:1")
    waiting.agree_on("migrate-incoming")
    waiting.agree_on("migrate-incoming", uri="unix:/no/such/folder/socket")
    waiting.agree_on("migrate-incoming", uri="tcp:192.0.2.1:4444")
    for side, name in ((waiting.qemu, "qemu"), (waiting.qmon, "qmon")):
        uri = f"unix:{waiting.folder / name}.in"
        assert side.ask("migrate-incoming", {"uri": uri}) == {"return": {}}
    waiting.agree_on("migrate-incoming", uri="tcp:127.0.0.1:1")


@pytest.mark.parametrize(
    "options",
    [
        "id=d0,file=/no/such/file,format=raw",
        "id=x,file=/no/such/file,format=raw",
        "id=x,file=/no/such/file",
        "id=9x,file=/no/such/file,format=raw",
        "id=x,file={folder}/d0.img,format=nonsense",
    ],
)
def test_what_is_said_of_a_drive_that_can_not_be_added(both: Both, options: str) -> None:
    """By QEMU's monitor: its QMP has no drives to add."""
    line = "drive_add 0 if=none," + options.format(folder=both.folder / "qemu")
    theirs = both.qemu.ask("human-monitor-command", {"command-line": line})["return"].splitlines()[0]
    given = dict(item.split("=") for item in options.format(folder=both.folder / "qmon").split(","))
    ours = both.qmon.ask("x-qmon-drive-add", given)["error"]["desc"]
    assert ours == theirs


def test_what_is_said_of_a_drive_that_is_not_there(both: Both) -> None:
    theirs = both.qemu.ask("human-monitor-command", {"command-line": "drive_del nope"})["return"]
    ours = both.qmon.ask("x-qmon-drive-del", {"id": "nope"})["error"]
    assert ours == {"class": "DeviceNotFound", "desc": theirs.strip()}


@pytest.mark.parametrize("name", ["d0", "ro0", "", "1n", "n" * 32])
def test_what_is_said_of_what_an_overlay_can_not_be_called(both: Both, name: str) -> None:
    answers = []
    for side, folder in ((both.qemu, "qemu"), (both.qmon, "qmon")):
        file = both.folder / folder / f"overlay-{len(name)}.qcow2"
        given = {"device": "d0", "snapshot-file": str(file), "snapshot-node-name": name}
        answers.append(side.ask("blockdev-snapshot-sync", given))
        file.unlink(missing_ok=True)  # QEMU makes it first
    assert answers[1] == answers[0]
    assert "error" in answers[0]

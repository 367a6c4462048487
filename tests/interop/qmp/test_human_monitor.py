"""``human-monitor-command``: a line of the human monitor, answered as QEMU 7.2 answers it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive
from tests.support.processes import Lab
from tests.support.qmp_both import Both
from tests.support.qmp_client import QmpClient
from tests.support.waiting import PATIENCE

NO_SUCH = "no QMP command 'human-monitor-command'"
PASSES = "qmp human-monitor-command {'command-line': 'stop'}"


def passed(client: QmpClient, line: str) -> str:
    return str(client.run("human-monitor-command", {"command-line": line}))


@pytest.mark.parametrize(
    "line",
    [
        *("", "  ", "info status", "info name", "info history", "info cpus", "print 1 + 2", "print/d 0x10"),
        *("nosuch", "info foo", "# comment", "help nosuch", "info nosuch x"),
        *("info status\nstop", "quit now", "print", "print/q 1", "print 1/0", "é"),
        *("nbd_server_stop", "block_resize x 1", "eject nope", "drive_del nope", "commit nope"),
        *("getfd x", "closefd x", "migrate", "migrate nonsense", "migrate_cancel", "cpu 0", "stop", "cont"),
        *("migrate_set_parameter nosuch 1", "migrate_set_capability nosuch on"),
    ],
)
def test_a_line_is_answered_as_by_qemu(both: Both, line: str) -> None:
    both.agree_on("human-monitor-command", command_line=line)


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"command-line": 5},
        {"command-line": "info status", "cpu-index": 1},
        {"command-line": "info status", "cpu-index": -1},
        {"command-line": "info status", "cpu-index": "x"},
        {"command-line": "info status", "more": 1},
    ],
    ids=str,
)
def test_what_is_said_of_its_arguments(both: Both, arguments: dict[str, object]) -> None:
    both.agree({"execute": "human-monitor-command", "arguments": arguments})


def test_a_migration_goes_on_behind_the_answer(lab: Lab) -> None:
    source = lab.start("source", *drive(blank(lab.folder / "source.img", MIB)))
    incoming = f"unix:{lab.folder}/incoming"
    target = lab.start("target", *drive(blank(lab.folder / "target.img", MIB)), "-incoming", incoming)
    assert target.status() == "paused (inmigrate)"
    with QmpClient(source.qmp_path) as client:
        said = passed(client, f"migrate -b {incoming}")
        assert said == "terminal does not allow synchronous migration, continuing detached\r\n"
        assert passed(client, "wait") == ""
        assert client.run("query-status")["status"] == "postmigrate"


def test_descriptors_are_for_the_clients_own_commands(both: Both, tmp_path: Path) -> None:
    for client in (both.qemu, both.qmon):
        with (tmp_path / "file").open("w") as file:
            client.ask("query-name", descriptors=[file.fileno()])
        assert "No file descriptor supplied" in passed(client, "getfd x")
        assert client.run("getfd", fdname="x") == {}
        assert client.run("closefd", fdname="x") == {}


def test_the_machine_itself_has_no_such_command(lab: Lab) -> None:
    """So that a line of the monitor is never passed to the monitor."""
    qmon = lab.start("qmon")
    assert {"name": "human-monitor-command"} in qmon.qmp("query-commands")
    assert NO_SUCH in qmon.command(PASSES)
    with QmpClient(qmon.qmp_path) as client:
        assert NO_SUCH in passed(client, PASSES)
    assert qmon.status() == "running"


def test_quit(lab: Lab) -> None:
    qmon = lab.start("qmon")
    with QmpClient(qmon.qmp_path) as client:
        assert passed(client, "quit") == ""
        assert client.event_names == ["SHUTDOWN"]
    assert os.waitstatus_to_exitcode(qmon.process.wait(PATIENCE) << 8) == 0

"""File descriptors that a QMP client hands over: named ones, and sets."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from tests.support.processes import Lab, open_descriptors
from tests.support.qmp_client import QmpClient
from tests.support.waiting import eventually, send_all


def ask(client: QmpClient, command: str, *descriptors: int, **arguments: Any) -> Any:
    """Give a command and descriptors; return the result, or what the error says."""
    answer = client.ask(command, None, descriptors, **arguments)
    return answer["return"] if "return" in answer else answer["error"]["desc"]


def test_a_descriptor_is_kept_by_its_name_until_it_is_closed(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    client = QmpClient(qmon.qmp_path)
    before = open_descriptors(qmon.process.pid)
    files = [tmp_path / name for name in ("first", "second", "third")]
    for path in files:
        path.touch()
    fds = [os.open(path, os.O_RDONLY) for path in files]
    try:
        assert ask(client, "getfd", fdname="a") == "No file descriptor supplied via SCM_RIGHTS"
        assert ask(client, "getfd", fds[0], fdname="1a") == (
            "Parameter 'fdname' expects a name not starting with a digit"
        )
        assert ask(client, "getfd", fds[0], fdname="a") == {}
        assert ask(client, "getfd", fds[1], fds[2], fdname="b") == {}
        assert ask(client, "getfd", fdname="c") == "No file descriptor supplied via SCM_RIGHTS"
        held = set(open_descriptors(qmon.process.pid)) - set(before)
        assert held == {str(files[0]), str(files[1])}
        assert ask(client, "getfd", fds[2], fdname="b") == {}
        held = set(open_descriptors(qmon.process.pid)) - set(before)
        assert held == {str(files[0]), str(files[2])}
        assert ask(client, "closefd", fdname="a") == {}
        assert ask(client, "closefd", fdname="a") == "File descriptor named 'a' not found"
        assert ask(client, "closefd", fdname="b") == {}
        assert open_descriptors(qmon.process.pid) == before
    finally:
        for fd in fds:
            os.close(fd)
        client.close()


def test_sets_of_descriptors_are_listed_and_removed_as_qemu_does(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    client = QmpClient(qmon.qmp_path)
    before = open_descriptors(qmon.process.pid)
    with (tmp_path / "file").open("wb") as file:
        fd = file.fileno()
        assert ask(client, "add-fd", fd, fdset_id=-1) == ("Parameter 'fdset-id' expects a non-negative value")
        first = ask(client, "add-fd", fd, opaque="rdonly:/dev/null")
        assert first["fdset-id"] == 0
        second = ask(client, "add-fd", fd, fdset_id=0)
        other = ask(client, "add-fd", fd, fdset_id=5)
        assert ask(client, "add-fd", fd)["fdset-id"] == 1
        assert ask(client, "remove-fd", fdset_id=1) == {}
        assert ask(client, "query-fdsets") == [
            {"fdset-id": 5, "fds": [{"fd": other["fd"]}]},
            {"fdset-id": 0, "fds": [{"fd": first["fd"], "opaque": "rdonly:/dev/null"}, {"fd": second["fd"]}]},
        ]
        missing = f"File descriptor named 'fdset-id:0, fd:{other['fd']}' not found"
        assert ask(client, "remove-fd", fdset_id=0, fd=other["fd"]) == missing
        assert ask(client, "remove-fd", fdset_id=0, fd=first["fd"]) == {}
        assert ask(client, "remove-fd", fdset_id=0) == {}
        assert ask(client, "remove-fd", fdset_id=0) == "File descriptor named 'fdset-id:0' not found"
        assert ask(client, "remove-fd", fdset_id=5) == {}
        assert ask(client, "query-fdsets") == []
        assert open_descriptors(qmon.process.pid) == before
    client.close()


def test_what_nobody_takes_is_closed_with_its_client(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    client = QmpClient(qmon.qmp_path)
    with (tmp_path / "file").open("wb") as file:
        assert ask(client, "query-name", file.fileno()) == {}
        assert str(tmp_path / "file") in open_descriptors(qmon.process.pid)
        client.close()
        eventually(
            lambda: str(tmp_path / "file") not in open_descriptors(qmon.process.pid),
            "the descriptor is closed",
        )


def test_a_descriptor_is_its_own_commands_though_the_next_is_read_already(lab: Lab, tmp_path: Path) -> None:
    """With ``oob`` messages are read ahead."""
    qmon = lab.start("qmon")
    with QmpClient(qmon.qmp_path, negotiates=False) as client:
        client.run("qmp_capabilities", enable=["oob"])
        for name in ("a", "b"):
            with (tmp_path / name).open("wb") as file:
                message = b'{"execute": "add-fd", "arguments": {"opaque": "%s"}}' % name.encode()
                send_all(client.socket, message, [file.fileno()])
        answers = [client.answer()["return"]["fd"] for _ in range(2)]
        opened = [os.readlink(f"/proc/{qmon.process.pid}/fd/{fd}") for fd in answers]
        assert opened == [str(tmp_path / "a"), str(tmp_path / "b")]


def test_a_descriptor_may_come_before_its_command(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    with QmpClient(qmon.qmp_path) as client, (tmp_path / "a").open("wb") as file:
        send_all(client.socket, b" ", [file.fileno()])
        assert client.run("query-name") == {}
        assert client.run("getfd", fdname="x") == {}
        assert client.run("closefd", fdname="x") == {}
        assert "No file descriptor supplied" in client.ask("getfd", fdname="x")["error"]["desc"]
        for _ in range(3):
            send_all(client.socket, b" ", [file.fileno()] * 20)
        client.run("query-name")
        held = open_descriptors(qmon.process.pid).count(str(tmp_path / "a"))
        assert held <= 1

"""File descriptors that a QMP client hands over: named ones, and sets."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from tests.interop.hmp.test_hmp import connect
from tests.support.processes import Lab, open_descriptors


class Client:
    """A QMP client that can send a descriptor along."""

    def __init__(self, path: Path) -> None:
        self._socket = connect(path)
        self._file = self._socket.makefile("r")
        self._file.readline()
        self.ask("qmp_capabilities")

    def ask(self, command: str, *fds: int, **arguments: Any) -> Any:
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        request = json.dumps({"execute": command, "arguments": named}).encode() + b"\n"
        socket.send_fds(self._socket, [request], fds)
        answer = json.loads(self._file.readline())
        return answer["return"] if "return" in answer else answer["error"]["desc"]

    def close(self) -> None:
        self._file.close()
        self._socket.close()


@pytest.fixture
def lab(tmp_path: Path) -> Any:
    with Lab(tmp_path) as lab:
        yield lab


def test_a_descriptor_is_kept_by_its_name_until_it_is_closed(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    client = Client(qmon.qmp)
    before = open_descriptors(qmon.process.pid)
    files = [tmp_path / name for name in ("first", "second", "third")]
    for path in files:
        path.touch()
    fds = [os.open(path, os.O_RDONLY) for path in files]
    try:
        assert client.ask("getfd", fdname="a") == "No file descriptor supplied via SCM_RIGHTS"
        assert client.ask("getfd", fds[0], fdname="1a") == (
            "Parameter 'fdname' expects a name not starting with a digit"
        )
        assert client.ask("getfd", fds[0], fdname="a") == {}
        assert client.ask("getfd", fds[1], fds[2], fdname="b") == {}
        assert client.ask("getfd", fdname="c") == "No file descriptor supplied via SCM_RIGHTS"
        held = set(open_descriptors(qmon.process.pid)) - set(before)
        assert held == {str(files[0]), str(files[1])}
        assert client.ask("getfd", fds[2], fdname="b") == {}
        held = set(open_descriptors(qmon.process.pid)) - set(before)
        assert held == {str(files[0]), str(files[2])}
        assert client.ask("closefd", fdname="a") == {}
        assert client.ask("closefd", fdname="a") == "File descriptor named 'a' not found"
        assert client.ask("closefd", fdname="b") == {}
        assert open_descriptors(qmon.process.pid) == before
    finally:
        for fd in fds:
            os.close(fd)
        client.close()


def test_sets_of_descriptors_are_listed_and_removed_as_qemu_does(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    client = Client(qmon.qmp)
    before = open_descriptors(qmon.process.pid)
    with (tmp_path / "file").open("wb") as file:
        fd = file.fileno()
        assert client.ask("add-fd", fd, fdset_id=-1) == ("Parameter 'fdset-id' expects a non-negative value")
        first = client.ask("add-fd", fd, opaque="rdonly:/dev/null")
        assert first["fdset-id"] == 0
        second = client.ask("add-fd", fd, fdset_id=0)
        other = client.ask("add-fd", fd, fdset_id=5)
        assert client.ask("add-fd", fd)["fdset-id"] == 1
        assert client.ask("remove-fd", fdset_id=1) == {}
        assert client.ask("query-fdsets") == [
            {"fdset-id": 0, "fds": [{"fd": second["fd"]}, {"fd": first["fd"], "opaque": "rdonly:/dev/null"}]},
            {"fdset-id": 5, "fds": [{"fd": other["fd"]}]},
        ]
        missing = f"File descriptor named 'fdset-id:0, fd:{other['fd']}' not found"
        assert client.ask("remove-fd", fdset_id=0, fd=other["fd"]) == missing
        assert client.ask("remove-fd", fdset_id=0, fd=first["fd"]) == {}
        assert client.ask("remove-fd", fdset_id=0) == {}
        assert client.ask("remove-fd", fdset_id=0) == "File descriptor named 'fdset-id:0' not found"
        assert client.ask("remove-fd", fdset_id=5) == {}
        assert client.ask("query-fdsets") == []
        assert open_descriptors(qmon.process.pid) == before
    client.close()


def test_what_nobody_takes_is_closed_with_its_client(lab: Lab, tmp_path: Path) -> None:
    qmon = lab.start("qmon")
    client = Client(qmon.qmp)
    with (tmp_path / "file").open("wb") as file:
        assert client.ask("query-name", file.fileno()) == {}
        assert str(tmp_path / "file") in open_descriptors(qmon.process.pid)
        client.close()
        again = Client(qmon.qmp)  # served when the first has gone
        assert str(tmp_path / "file") not in open_descriptors(qmon.process.pid)
        again.close()

"""Who runs: records that are locked while their process lives."""

from __future__ import annotations

import os
import signal
import socket
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from qmon.errors import QmonError
from qmon.host.running import FOLDER, Record, find_running, list_running

HOLDER = """
import sys, pathlib
from qmon.host.running import Record
record = Record(pathlib.Path(sys.argv[1]), sys.argv[2])
open(record.socket, "w").close()
print("there", flush=True)
sys.stdin.read()
"""


def holder(folder: Path, name: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(folder), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "there\n"
    return process


def end(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def left(folder: Path) -> list[str]:
    return sorted(os.listdir(folder / FOLDER))


def test_a_record_is_its_owners_alone_and_goes_with_it(tmp_path: Path) -> None:
    record = Record(tmp_path, "web1")
    assert stat.S_IMODE((tmp_path / FOLDER).stat().st_mode) == 0o700
    assert stat.S_IMODE((tmp_path / FOLDER / f"{os.getpid()}.json").stat().st_mode) == 0o600
    (found,) = list_running(tmp_path)
    assert (found.pid, found.name, found.folder, found.socket) == (
        os.getpid(),
        "web1",
        os.getcwd(),
        record.socket,
    )
    record.remove()
    assert (list_running(tmp_path), left(tmp_path)) == ([], [])


def test_what_a_killed_process_left_is_removed_and_a_live_ones_is_not(tmp_path: Path) -> None:
    gone, here = holder(tmp_path, "gone"), holder(tmp_path, "here")
    try:
        end(gone)
        assert len(left(tmp_path)) == 4
        assert [each.name for each in list_running(tmp_path)] == ["here"]
        assert left(tmp_path) == [f"{here.pid}.json", f"{here.pid}.qmp"]
    finally:
        end(here)


def test_a_name_that_nobody_has_is_answered_with_those_that_run(tmp_path: Path) -> None:
    with pytest.raises(QmonError, match="none runs with its state in"):
        find_running(tmp_path, "web1")
    record = Record(tmp_path, "web2")
    with pytest.raises(QmonError, match=rf"these run: web2 \(process {os.getpid()}\)"):
        find_running(tmp_path, "web1")
    assert find_running(tmp_path, "web2") == find_running(tmp_path, str(os.getpid()))
    other = holder(tmp_path, "web2")
    try:
        with pytest.raises(QmonError, match="2 qmons have the name 'web2': give the process id"):
            find_running(tmp_path, "web2")
    finally:
        end(other)
    record.remove()


def test_two_with_one_process_id_do_not_meet(tmp_path: Path) -> None:
    """As in two containers that share the folder."""
    one, other = Record(tmp_path, "one"), Record(tmp_path, "other")
    assert one.socket != other.socket
    assert sorted(each.name for each in list_running(tmp_path)) == ["one", "other"]
    one.remove()
    assert find_running(tmp_path, "other").socket == other.socket
    other.remove()
    assert left(tmp_path) == []


def test_the_records_of_another_host_are_left_alone(tmp_path: Path) -> None:
    """As on a network file system that does not show the locks of other hosts."""
    Record(tmp_path, "mine").remove()
    theirs = tmp_path / FOLDER / f"{os.getpid()}.json"
    theirs.write_text('{"pid": 1, "name": "theirs", "folder": "/", "host": "other", "boot": "another"}')
    assert list_running(tmp_path) == []
    record = Record(tmp_path, "mine")
    assert [each.name for each in list_running(tmp_path)] == ["mine"]
    record.remove()
    assert left(tmp_path) == [theirs.name]


def test_a_long_path_has_a_socket_too(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 100)
    record = Record(deep, "far")
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as client:
        listener.bind(record.socket)
        listener.listen()
        client.connect(find_running(deep, "far").socket)
    record.remove()
    assert left(deep) == []


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path: Path) -> None:
    (tmp_path / FOLDER).mkdir()
    (tmp_path / FOLDER).chmod(0o777)
    with pytest.raises(OSError, match="others may write to it"):
        Record(tmp_path, "web1")
    with pytest.raises(QmonError, match="others may write to it"):
        list_running(tmp_path)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"pid": 1}', '{"pid": 1, "name": 2, "folder": ""}', "\xff"])
def test_a_record_that_says_nothing_is_passed_over(tmp_path: Path, text: str) -> None:
    record = Record(tmp_path, "web1")
    path = tmp_path / FOLDER / f"{os.getpid()}.json"
    path.write_bytes(text.encode("latin-1"))
    assert list_running(tmp_path) == []
    record.remove()


def test_a_socket_in_this_folder_is_taken_for_what_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("vm.qmp")
    with pytest.raises(QmonError, match=r"^'vm\.qmp' is a socket in this folder: write unix:vm\.qmp$"):
        find_running(tmp_path / "state", "vm.qmp")

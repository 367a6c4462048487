"""A storage daemon's console on a terminal, and scripts: ``-connect``."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, filled, same
from tests.support.peers import require
from tests.support.runs import run
from tests.support.storage_daemon import DAEMONS, StorageDaemon
from tests.support.terminal import Terminal

FULL_SPEED = """qom-set -j /objects/slow limits {"bps-total":0}\r"""


@pytest.fixture(params=list(DAEMONS.values()), ids=list(DAEMONS))
def daemon(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[StorageDaemon]:
    require("qemu-img", request.param[0])
    filled(tmp_path / "d0.img", 64 * MIB)
    daemon = StorageDaemon(request.param, tmp_path)
    daemon.first.close()
    try:
        yield daemon
    finally:
        daemon.close()


@pytest.fixture
def terminal(daemon: StorageDaemon) -> Iterator[Terminal]:
    terminal = Terminal(daemon.folder / "tmux", XDG_STATE_HOME=str(daemon.folder))
    words = [sys.executable, "-m", "qmon", "-no-user-config", "-connect", f"unix:{daemon.socket}"]
    terminal.type(f"clear; {shlex.join(words)}\r")
    try:
        terminal.wait_for(r"^\(qemu qmp\) ?$")
        yield terminal
    finally:
        terminal.close()


def test_a_job_shows_its_progress_and_its_end(daemon: StorageDaemon, terminal: Terminal) -> None:
    terminal.wait_for(r"^Connected to qemu-storage-daemon \d+\.\d+\.\d+ at unix:")
    terminal.type("object_add throttle-group,id=slow,x-bps-total=512K\r")
    terminal.type(
        "drive_add -n 0 driver=throttle,node-name=d0,throttle-group=slow,file.driver=file,"
        f"file.filename={daemon.folder}/d0.img\r"
    )
    terminal.type(f"drive_mirror -f d0 {daemon.folder}/copy.img raw\rwait job d0\r")
    terminal.wait_for(r"^job 'd0'.*%")
    terminal.press("C-c")
    terminal.wait_for("^The job 'd0' continues$")
    terminal.type(FULL_SPEED)
    terminal.wait_for(r"^Block job 'd0' is ready: 'block_job_complete' ends it$")
    terminal.type("block_job_cancel d0\r")
    terminal.wait_for(r"^Block job 'd0' completed$")
    assert same(daemon.folder / "d0.img", daemon.folder / "copy.img")
    terminal.type("info status\r")
    terminal.wait_for("^info status: a storage daemon has no machine$")
    terminal.wait_whole(lambda screen: "unknown" not in screen.split("\n")[-1], "a toolbar without a state")
    terminal.press("C-d")
    terminal.wait_for(r"^\$ $")
    assert daemon.process.poll() is None


def test_names_are_completed(daemon: StorageDaemon, terminal: Terminal) -> None:
    terminal.type(f"drive_add 0 file={daemon.folder}/d0.img,format=raw,id=disk7\r")
    terminal.wait_for("^OK$")
    terminal.type("block_resize di")
    terminal.wait_for("^ +disk7 +raw, 64 MiB")


def test_a_script_answers_in_json(daemon: StorageDaemon) -> None:
    drive = f"drive_add 0 file={daemon.folder}/d0.img,format=raw,id=d0"
    done = run("-connect", f"unix:{daemon.socket}", "-json", "-c", drive, "-c", "info block", "-c", "stop")
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 1
    assert [each.get("ok", "error" not in each) for each in answers] == [True, True, False]
    assert "a storage daemon has no machine" in done.stdout

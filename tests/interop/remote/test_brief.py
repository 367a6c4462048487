"""A console that shares a QEMU's only monitor with a manager, which connects again and again."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.errors import QmonError
from tests.support.peer import QEMU_7, Peer
from tests.support.peers import require
from tests.support.processes import CHECKOUT, QMON
from tests.support.qmp_client import QmpClient
from tests.support.runs import Done, one_line, run
from tests.support.seat import Seat
from tests.support.waiting import PATIENCE, eventually

INTERVAL = 0.1
"""How often the manager asks, in seconds."""


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Peer]:
    require(*QEMU_7)
    with Peer(QEMU_7, tmp_path / "qemu", options=["-name", "web1"]) as peer:
        yield peer


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    seat = Seat(tmp_path)
    yield seat
    seat.close()


class Manager:
    """Asks for the machine's status every 100 ms, in a connection of its own each time."""

    def __init__(self, path: Path, holds: float = 0.0) -> None:
        self.answers = 0
        self.failures: list[str] = []
        self._path, self._holds = path, holds
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Manager:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def wait_served(self) -> None:
        """Wait until it has asked anew and was answered."""
        before = self.answers
        eventually(lambda: self.answers > before + 1, "the manager is served")

    def _run(self) -> None:
        while not self._over.wait(INTERVAL):
            try:
                with QmpClient(self._path, timeout=PATIENCE) as client:
                    client.run("query-status")
                    time.sleep(self._holds)
                self.answers += 1
            except (OSError, QmonError) as error:
                self.failures.append(repr(error))


def begin(qemu: Peer) -> subprocess.Popen[str]:
    """A script that gets its lines later."""
    return subprocess.Popen(
        [*QMON, "-brief", "-connect", f"unix:{qemu.qmp_path}"],
        cwd=qemu.folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def on(qemu: Peer, *lines: str) -> Done:
    words = [word for line in lines for word in ("-c", line)]
    return run("-brief", "-connect", f"unix:{qemu.qmp_path}", *words, cwd=qemu.folder)


def test_a_manager_is_never_kept_waiting(qemu: Peer) -> None:
    with Manager(qemu.qmp_path) as manager, begin(qemu) as qmon:
        assert qmon.stdin is not None
        assert qmon.stdout is not None
        for _ in range(4):
            qmon.stdin.write("info status\nstop\ncont\n" * 10)
            qmon.stdin.flush()
            assert [qmon.stdout.readline() for _ in range(10)] == ["VM status: running\n"] * 10
            manager.wait_served()
        assert qmon.communicate(timeout=PATIENCE) == ("", "")
    assert qmon.returncode == 0
    assert manager.failures == []


def test_a_line_waits_while_the_manager_holds_the_monitor(qemu: Peer) -> None:
    with Manager(qemu.qmp_path, holds=1.5) as manager:
        done = on(qemu, "info name")
        eventually(lambda: manager.answers, "the manager is served")
    assert (done.returncode, done.stdout, done.stderr) == (0, "web1\n", "")
    assert manager.failures == []


def test_a_human_monitor_is_shared_as_well(qemu: Peer) -> None:
    qemu.monitor.close()
    lines = ["-c", "info name", "-c", "nosuch"]
    done = run("-brief", "-connect", f"hmp:unix:{qemu.folder / 'm'}", *lines)
    assert (done.returncode, done.stdout) == (1, "web1\n")
    assert done.stderr.startswith("-c:2: unknown command: 'nosuch'")


def test_what_moves_a_guest_with_its_disks_is_named(qemu: Peer) -> None:
    done = on(qemu, "migrate blk tcp:127.0.0.1:1")
    assert done.returncode == 1
    assert "To move the disks, too, connect to the QEMU's -qmp monitor, without -brief" in done.stderr


def test_a_console_at_rest_holds_nothing(qemu: Peer, seat: Seat) -> None:
    words = f"-brief -connect unix:{qemu.qmp_path}"
    seat.terminal.type(f"clear; {sys.executable} -m qmon {words}; echo status $?\r")
    seat.terminal.wait_for(r"no events are told, no state is shown")
    seat.terminal.wait_for(r"^\(qemu web1\)$")
    with qemu.qmp() as other:
        assert other.run("query-status")["status"] == "running"
    seat.terminal.wait_whole(lambda screen: "not connected between lines" in screen, "the row says so")
    seat.terminal.type("stop\rinfo status\r")
    seat.terminal.wait_for("^VM status: paused")
    with qemu.qmp() as other:
        assert other.run("query-status")["status"] == "paused"
    seat.terminal.press("C-d")
    seat.terminal.wait_for(r"^status 0$")


def test_a_line_that_finds_nobody_fails_and_the_next_one_tries_again(qemu: Peer, seat: Seat) -> None:
    seat.terminal.type(f"clear; {sys.executable} -m qmon -brief -connect unix:{qemu.qmp_path}\r")
    seat.terminal.wait_for(r"^\(qemu web1\)$")
    qemu.process.kill()
    qemu.process.wait()
    seat.terminal.type("info status\r")
    seat.terminal.wait_for(r"^Error: (No such file or directory|Connection refused): nothing was sent")
    qemu.start_again()
    seat.terminal.type("info status\r")
    seat.terminal.wait_for("^VM status: running")


def test_quit_ends_the_qemu(qemu: Peer) -> None:
    assert on(qemu, "quit").returncode == 0
    assert qemu.process.wait(PATIENCE) == 0


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ([], "-brief: works with -connect only"),
        (["-connect", "libvirt:web1"], "-brief: not needed for a libvirt domain: "),
        (["-connect", "fd:0"], "-brief: not possible with a connected socket: "),
    ],
)
def test_where_it_can_not_work_it_is_refused(options: list[str], why: str) -> None:
    assert one_line(run("-brief", *options)).startswith(why)

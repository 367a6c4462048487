"""Monitors that another program holds, and programs that are no monitors."""

from __future__ import annotations

import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hmp_client import HmpClient
from tests.support.peer import QEMU_7, Peer
from tests.support.peers import require
from tests.support.pump import pump
from tests.support.runs import one_line, run
from tests.support.seat import Seat
from tests.support.terminal import Terminal

HELD = "no greeting: another program holds this monitor, which serves one client at a time."
HELPS = "End that program, or start QEMU with a second"


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    seat = Seat(tmp_path)
    yield seat
    seat.close()


@pytest.fixture
def qemu(tmp_path: Path) -> Iterator[Peer]:
    require(*QEMU_7)
    with Peer(QEMU_7, tmp_path / "qemu", options=["-name", "web1"]) as peer:
        yield peer


class Stranger:
    """A server that sends a text to each client and then waits, or closes."""

    def __init__(self, path: Path, text: bytes, closes: bool = False) -> None:
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        self._text, self._closes = text, closes
        self._accepted: list[socket.socket] = []
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self) -> Stranger:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        for each in (self._listener, *self._accepted):
            each.close()

    def _run(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:  # the test is over
                return
            client.sendall(self._text)
            if self._closes:
                client.close()
            else:
                self._accepted.append(client)
                self._begun(client)

    def _begun(self, client: socket.socket) -> None:
        """The text was sent, and the connection stays."""


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "an SSH server answers: this is not a QMP monitor"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "an HTTP server answers: this is not a QMP monitor"),
        (b"\x00\x01\x1b[2J", "the answer begins with '\\x00\\x01\\x1b[2J': this is not a QMP monitor"),
        (b"hello\r\nworld\r\n", "the answer begins with 'hello': this is not a QMP monitor"),
        (
            b'{"QMP": {"version": {}, "capabilities": []}}\r\n',
            "no answer comes after the greeting: gave up after 10 s",
        ),
    ],
)
def test_what_is_no_qmp_monitor_is_named_in_one_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "s"
    with Stranger(path, text):
        assert (
            one_line(run("-connect", f"unix:{path}", "-c", "info status")) == f"-connect unix:{path}: {said}"
        )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (b"SSH-2.0-OpenSSH_9.2p1\r\n", "an SSH server answers: this is not a human monitor"),
        (b"login: ", "the answer begins with 'login: ': this is not a human monitor"),
        (
            b"QEMU 9.9.9 monitor - type 'help'\r\nPassword: ",
            "the greeting has no prompt behind it: this is not a human monitor",
        ),
    ],
)
def test_what_is_no_human_monitor_is_named_in_one_line(tmp_path: Path, text: bytes, said: str) -> None:
    path = tmp_path / "s"
    with Stranger(path, text):
        done = run("-connect", f"hmp:unix:{path}", "-c", "info status")
        assert one_line(done) == f"-connect hmp:unix:{path}: {said}"


class EventsFirst(Stranger):
    """A monitor of a QEMU that sends events of the client before, and then greets."""

    def __init__(self, path: Path, qmp: Path) -> None:
        self._qmp = qmp
        super().__init__(path, b'{"timestamp": {"seconds": 1, "microseconds": 2}, "event": "STOP"}\r\n' * 2)

    def _begun(self, client: socket.socket) -> None:
        server = socket.socket(socket.AF_UNIX)
        server.connect(str(self._qmp))
        self._accepted.append(server)
        pump(client, server)


def test_events_without_end_are_no_monitor(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with Stranger(path, b'{"event": "STOP"}\r\n' * 1000):
        said = 'the answer begins with \'{"event": "STOP"}\': this is not a QMP monitor'
        assert one_line(run("-connect", f"unix:{path}", "-c", "info status")).endswith(said)


def test_events_before_the_greeting_are_passed_over(qemu: Peer, tmp_path: Path) -> None:
    with EventsFirst(tmp_path / "late", qemu.qmp_path):
        done = run("-connect", f"unix:{tmp_path / 'late'}", "-c", "info name")
    assert (done.returncode, done.stdout, done.stderr) == (0, "web1\n", "")


@pytest.mark.parametrize("kind", ["", "hmp:"])
def test_a_connection_that_is_closed_at_once_is_said(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "s"
    with Stranger(path, b"", closes=True):
        done = run("-connect", f"{kind}unix:{path}", "-c", "info status")
    assert one_line(done) == f"-connect {kind}unix:{path}: the other end closed the connection at once"


def test_a_human_monitor_at_the_address_is_recognised(qemu: Peer) -> None:
    qemu.monitor.close()
    address = f"unix:{qemu.folder / 'm'}"
    done = run("-connect", address, "-c", "info name")
    assert one_line(done) == (
        f"-connect {address}: a human monitor answers, not a QMP monitor: write -connect hmp:{address}"
    )


def test_a_script_gives_up_a_held_monitor_with_what_helps(qemu: Peer) -> None:
    address = f"unix:{qemu.qmp_path}"
    with qemu.qmp():
        said = one_line(run("-connect", address, "-c", "info name"))
    assert said.startswith(
        f"-connect {address}: {HELD} End that program, or start QEMU with a second -qmp (Proxmox"
    )
    assert said.endswith("Gave up after 10 s")


def test_a_held_human_monitor_is_said_as_well(qemu: Peer) -> None:
    address = f"hmp:unix:{qemu.folder / 'm'}"  # the fixture's own connection holds it
    said = one_line(run("-connect", address, "-c", "info name"))
    assert said.startswith(
        f"-connect {address}: {HELD} End that program, or start QEMU with a second -monitor ("
    )


def test_a_script_is_served_when_the_other_program_leaves_in_time(qemu: Peer) -> None:
    holder = qemu.qmp()
    leaving = threading.Timer(2, holder.close)
    leaving.start()
    done = run("-connect", f"unix:{qemu.qmp_path}", "-c", "info name")
    leaving.join()
    assert (done.returncode, done.stdout, done.stderr) == (0, "web1\n", "")


def _said(terminal: Terminal, text: str) -> None:
    """Wait for a text that may be wrapped."""
    terminal.wait_until(lambda screen: text in screen.replace("\n", ""), text)


@pytest.mark.parametrize("kind", ["qmp", "hmp"])
def test_a_terminal_waits_until_the_other_program_leaves(qemu: Peer, seat: Seat, kind: str) -> None:
    qemu.monitor.close()
    path = qemu.qmp_path if kind == "qmp" else qemu.folder / "m"
    holder = qemu.qmp() if kind == "qmp" else HmpClient(path)
    words = f"-connect {'hmp:' if kind == 'hmp' else ''}unix:{path}"
    seat.terminal.type(f"clear; {sys.executable} -m qmon {words}\r")
    _said(seat.terminal, HELD)
    _said(seat.terminal, "Waiting until it greets; Ctrl-C gives up")
    holder.close()
    seat.terminal.wait_for(r"^\(qemu \w+\)$")
    seat.terminal.type("info name\r")
    seat.terminal.wait_for(r"^web1$")
    seat.terminal.press("C-d")
    seat.terminal.wait_for(r"^\$ $")


def test_the_wait_at_a_terminal_is_given_up_by_ctrl_c(qemu: Peer, seat: Seat) -> None:
    with qemu.qmp():
        seat.terminal.type(f"clear; {sys.executable} -m qmon -connect unix:{qemu.qmp_path}; echo status $?\r")
        _said(seat.terminal, "Ctrl-C gives up")
        seat.terminal.press("C-c")
        seat.terminal.wait_for(r"^(\^C)?status 130$")

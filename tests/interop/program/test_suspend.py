"""Ctrl-Z: the shell has its terminal, the machine goes on, and ``fg`` comes back to the same line."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from pathlib import Path

import pytest

from tests.support.guest import Guest, guest_when_served
from tests.support.images import MIB, blank, drive, filled, same
from tests.support.processes import Lab, gone
from tests.support.seat import Seat
from tests.support.waiting import eventually

SIZE = 4 * MIB


def front(seat: Seat) -> int:
    """The process that the shell waits for."""
    status = Path(f"/proc/{seat.pid}/status").read_text()
    return int(status.partition("PPid:")[2].split()[0])


def suspend(seat: Seat) -> None:
    seat.terminal.press("C-z")
    seat.terminal.wait_for(r"^\[1\]\+  Stopped ")
    seat.terminal.wait_for(r"^\$ $")


@pytest.mark.parametrize("options", [(), ("-plain",)], ids=["drawn", "plain"])
def test_the_line_is_there_again_and_the_shell_works_meanwhile(seat: Seat, options: tuple[str, ...]) -> None:
    seat.start(*options)
    seat.prompt()
    seat.terminal.type("info sta")
    seat.terminal.wait_for(r"^\(qemu\) info sta$")
    suspend(seat)
    seat.terminal.type("clear; stty -a | grep -ow 'icanon\\|echo\\|ixon'\r")
    seat.terminal.wait_for_end("ixon\nicanon\necho\n$ ")
    seat.terminal.type("fg\r")
    seat.terminal.wait_for(r"^\(qemu\) info sta$")
    seat.terminal.type("tus\r")
    seat.terminal.wait_for_end("(qemu) info status\nVM status: running\n(qemu) ")
    suspend(seat)
    seat.terminal.type("fg\rquit\r")
    seat.terminal.wait_for_end("(qemu) quit\n$ ")
    assert seat.has_ended_well


def test_guests_are_served_and_a_migration_runs_meanwhile(lab: Lab, seat: Seat) -> None:
    uri, nbd = f"unix:{lab.folder / 'in'}", lab.folder / "nbd"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    seat.start(*drive(filled(lab.folder / "a", SIZE)))
    seat.prompt()
    seat.terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
    with target.held("write"):
        seat.terminal.type(f"migrate blk {uri}\r")
        target.wait_migration("active")
        suspend(seat)
        with Guest(nbd, "d0") as guest:
            guest.write(0, b"x" * 512)
            assert guest.read(0, 512) == b"x" * 512
    target.wait_migration("completed")
    assert same(lab.folder / "a", lab.folder / "b")
    seat.terminal.type("clear; fg\r")
    seat.prompt()
    seat.terminal.type("info status\r")
    seat.terminal.wait_for(r"^VM status: paused \(postmigrate\)$")


def test_events_that_came_meanwhile_are_shown_at_the_end(seat: Seat, tmp_path: Path) -> None:
    nbd = tmp_path / "nbd"
    seat.start(*drive(filled(tmp_path / "a", SIZE)))
    seat.prompt()
    seat.terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
    seat.terminal.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
    suspend(seat)
    with Guest(nbd, "d0"):
        seat.terminal.type("clear; fg\r")
        seat.terminal.wait_for(r"^An NBD client .*connected to export 'd0'\n\(qemu\) $")


def test_a_job_of_the_background_comes_to_the_foreground(seat: Seat) -> None:
    seat.start()
    seat.prompt()
    suspend(seat)
    seat.terminal.type("bg; jobs\r")
    seat.terminal.wait_for(r"^\[1\]\+  Running ")
    seat.terminal.type("clear; fg\r")
    seat.prompt()
    seat.terminal.type("info status\r")
    seat.terminal.wait_for_end("(qemu) info status\nVM status: running\n(qemu) ")


def test_a_machine_that_is_started_in_the_background_serves_before_it_has_a_console(
    seat: Seat, tmp_path: Path
) -> None:
    nbd = tmp_path / "nbd"
    lines = (f"nbd_server_start unix:{nbd}", "nbd_server_add -w d0")
    options = ["-monitor", "stdio", *(word for line in lines for word in ("-c", line))]
    seat.start(*drive(filled(tmp_path / "a", SIZE)), *options, behind="&")
    with guest_when_served(nbd, "d0") as guest:
        guest.write(0, b"x" * 512)
        seat.terminal.type("clear; jobs\r")
        seat.terminal.wait_for(r"^\[1\]\+  Running ")
        seat.terminal.type("clear; fg\r")
        seat.prompt()
        seat.terminal.type("info status\r")
        seat.terminal.wait_for(r"^VM status: running$")
        assert guest.read(0, 512) == b"x" * 512


@pytest.mark.parametrize("end", ["kill %1", "kill $(cat {pid})"], ids=["job", "machine"])
def test_a_machine_that_ends_meanwhile_leaves_the_terminal_to_the_shell(
    seat: Seat, tmp_path: Path, end: str
) -> None:
    seat.start()
    seat.prompt()
    waiting = front(seat)
    suspend(seat)
    seat.terminal.type("clear\r" + end.format(pid=tmp_path / "pid") + "\r")
    eventually(lambda: seat.has_ended_well and gone(waiting), "both have ended")
    seat.terminal.type("\r")
    seat.terminal.wait_for(r"^\[1\]\+  Done ")
    seat.terminal.type("clear; stty -a | grep -ow 'icanon\\|echo'\r")
    seat.terminal.wait_for_end("icanon\necho\n$ ")


def test_a_shell_that_exits_takes_a_machine_with_it_that_nobody_uses(seat: Seat) -> None:
    seat.start()
    seat.prompt()
    suspend(seat)
    seat.hang_up()
    eventually(lambda: seat.has_ended_well, "it has ended")


@pytest.mark.parametrize("how", ["terminal", "exit"])
def test_a_shell_that_exits_leaves_a_machine_that_serves_a_guest(
    seat: Seat, tmp_path: Path, how: str
) -> None:
    nbd = tmp_path / "nbd"
    seat.start(*drive(filled(tmp_path / "a", SIZE)))
    seat.prompt()
    seat.terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
    seat.terminal.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
    with Guest(nbd, "d0") as guest:
        seat.terminal.wait_for(r"connected to export")
        suspend(seat)
        if how == "terminal":
            seat.hang_up()
        else:
            seat.terminal.type("clear; exit\r")
            seat.terminal.wait_for(r"^There are stopped jobs")
            seat.terminal.type("exit\r")
        seat.wait_log("hangup: qmon keeps running without a terminal: 1 NBD client uses export 'd0'")
        guest.write(0, b"x" * 512)
    assert "Traceback" not in seat.log.read_text()
    seat.end()


@pytest.mark.parametrize("suspended", [False, True], ids=["foreground", "suspended"])
def test_the_end_of_the_front_is_a_hangup(seat: Seat, tmp_path: Path, suspended: bool) -> None:
    nbd = tmp_path / "nbd"
    seat.start(*drive(filled(tmp_path / "a", SIZE)))
    seat.prompt()
    seat.terminal.type(f"nbd_server_start unix:{nbd}\rnbd_server_add -w d0\r")
    seat.terminal.wait_for(r"^\(qemu\) nbd_server_add -w d0\n\(qemu\) $")
    with Guest(nbd, "d0"):
        seat.terminal.wait_for(r"connected to export")
        if suspended:
            suspend(seat)
        os.kill(front(seat), signal.SIGKILL)
        seat.wait_log("hangup: qmon keeps running without a terminal: 1 NBD client uses export 'd0'")
    seat.terminal.type("clear; echo done\r")
    seat.terminal.wait_for(r"^done$")
    seat.end()


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGTERM, "0"), (signal.SIGINT, "0"), (signal.SIGHUP, "0")]
)
def test_signals_to_the_front_are_the_machines(seat: Seat, number: signal.Signals, status: str) -> None:
    seat.start(behind="; echo status $?")
    seat.prompt()
    os.kill(front(seat), number)
    seat.terminal.wait_for(f"^status {status}$")
    assert seat.has_ended_well


@pytest.mark.parametrize(
    ("number", "status"), [(signal.SIGKILL, "137"), (signal.SIGSEGV, "139"), (signal.SIGQUIT, "131")]
)
def test_the_shell_sees_the_signal_that_ended_the_machine(
    seat: Seat, number: signal.Signals, status: str
) -> None:
    seat.start(behind="; echo status $?")
    seat.prompt()
    os.kill(seat.pid, number)
    seat.terminal.wait_for(f"status {status}")
    assert gone(seat.pid)


def test_the_shell_sees_the_exit_status(seat: Seat, tmp_path: Path) -> None:
    seat.terminal.type(f"clear; {sys.executable} -m qmon {tmp_path}/nothing; echo status $?\r")
    seat.terminal.wait_for(r"^qmon: Could not open (?:.*\n)+status 1$")


def test_the_front_holds_nothing_that_was_inherited(seat: Seat) -> None:
    seat.start(behind="3</dev/null 7</dev/zero")
    seat.prompt()
    held = {os.readlink(f"/proc/{seat.pid}/fd/{number}") for number in (3, 7)}
    assert held == {"/dev/null", "/dev/zero"}
    eventually(lambda: len(os.listdir(f"/proc/{front(seat)}/fd")) == 3, "only the terminal is open")


def test_without_a_terminal_or_a_shell_there_is_one_process(lab: Lab, seat: Seat) -> None:
    lone = lab.start("lone")
    children = Path(f"/proc/{lone.process.pid}/task/{lone.process.pid}/children")
    assert children.read_text() == ""
    seat.terminal.type("clear; exec " + shlex.join([sys.executable, "-m", "qmon"]) + "\r")
    seat.prompt()
    seat.terminal.press("C-z")
    seat.terminal.wait_for_end("Ctrl-Z: no shell waits for qmon on this terminal\n(qemu) ")

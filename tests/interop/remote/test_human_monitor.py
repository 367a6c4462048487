"""A console on the human monitor of a program that has no QMP monitor."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.hmp_client import HmpClient
from tests.support.peer import MACHINE, QEMU_7, QEMU_10, QMON_HERE, Peer, three_drives
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT
from tests.support.runs import Done, one_line, run
from tests.support.seat import Seat
from tests.support.waiting import PATIENCE


@pytest.fixture(params=[QEMU_7, QEMU_10, QMON_HERE], ids=["qemu7", "qemu10", "qmon"])
def monitored(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Peer]:
    """A program with three drives. Its human monitor is free, and its QMP monitor observes."""
    command: Sequence[str] = request.param
    require(command[0])
    with Peer(command, tmp_path / "peer", three_drives, options=["-name", "web1"]) as peer:
        peer.monitor.close()
        yield peer


def on(peer: Peer, *options: str, stdin: str | None = None) -> Done:
    return run("-connect", f"hmp:unix:{peer.folder / 'm'}", *options, stdin=stdin, cwd=peer.folder)


def lines(*each: str) -> list[str]:
    return [word for line in each for word in ("-c", line)]


def test_lines_are_answered_as_at_the_monitor_itself(monitored: Peer) -> None:
    given = ["info version", "info status", "info block d0", "info name", "help info block"]
    with HmpClient(monitored.folder / "m") as client:
        asked = [client.command(line) for line in given[:-1]]
    done = on(monitored, *lines(*given[:-1]))
    assert done.stdout.splitlines() == [row for answer in asked for row in answer.splitlines() if row]
    assert (done.returncode, done.stderr) == (0, "")


def test_a_script_goes_on_until_a_line_fails(monitored: Peer) -> None:
    done = on(monitored, *lines("stop", "info status", "eject nosuch", "cont"))
    assert done.returncode == 1
    assert done.stdout == "VM status: paused\n"
    assert done.stderr.splitlines()[0] == "-c:3: Error: Device 'nosuch' not found"
    with monitored.qmp() as client:
        assert client.run("query-status")["status"] == "paused"


def test_results_are_told_as_json(monitored: Peer) -> None:
    done = on(monitored, "-json", "-keep-going", *lines("info name", "nosuch"))
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(each["ok"], each["output"]) for each in found] == [(True, "web1"), (False, "")]
    assert found[1]["error"] == "unknown command: 'nosuch'"


def test_long_lines_and_wide_characters_arrive_whole(monitored: Peer) -> None:
    long, wide = "x" * 4000, "größe-日本-🙂"
    done = on(monitored, "-keep-going", *lines(long, f"eject {wide}", "info name"))
    assert f"unknown command: '{long}'" in done.stderr
    assert f"Error: Device '{wide}' not found" in done.stderr
    assert done.stdout == "web1\n"


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("info\x01 name", "can't read the character"),
        ("eject \u015b", "can't read the character '\\u015b'"),
        ("x" * 4096, "at most 4095"),
    ],
)
def test_a_line_that_would_arrive_differently_is_refused(monitored: Peer, line: str, why: str) -> None:
    done = on(monitored, *lines(line))
    assert done.returncode == 1
    assert why in done.stderr


def test_a_prompt_in_an_answer_ends_nothing(monitored: Peer) -> None:
    done = on(monitored, "-keep-going", *lines("eject (qemu)", 'eject "(qemu) "', "info name"))
    assert "Device '(qemu) ' not found" in done.stderr
    assert done.stdout == "web1\n"


def test_leaving_frees_the_monitor_and_quit_ends_the_program(monitored: Peer) -> None:
    assert on(monitored, stdin="info status\n").returncode == 0
    with HmpClient(monitored.folder / "m") as client:
        assert client.command("info name") == "web1"
    done = on(monitored, *lines("quit"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert monitored.process.wait(PATIENCE) == 0


def test_a_monitor_by_telnet_is_spoken_to(tmp_path: Path) -> None:
    require(QEMU_7[0])
    port = free_port()
    qemu = subprocess.Popen(
        [*QEMU_7, *MACHINE, "-name", "web1", "-monitor", f"telnet:127.0.0.1:{port},server=on,wait=off"],
        cwd=CHECKOUT,
        stdin=subprocess.DEVNULL,
    )
    try:
        done = run("-connect", f"hmp:127.0.0.1:{port}", "-c", "info name", cwd=tmp_path)
        for _ in range(100):
            if "refused" not in done.stderr:
                break
            done = run("-connect", f"hmp:127.0.0.1:{port}", "-c", "info name", cwd=tmp_path)
        assert (done.stdout, done.stderr) == ("web1\n", "")
    finally:
        qemu.terminate()
        qemu.wait(PATIENCE)


def test_a_qmp_monitor_at_the_address_is_recognised(monitored: Peer) -> None:
    address = f"unix:{monitored.qmp_path}"
    done = run("-connect", f"hmp:{address}", "-c", "info name")
    assert one_line(done) == (
        f"-connect hmp:{address}: a QMP monitor answers, not a human monitor: write -connect {address}"
    )


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    seat = Seat(tmp_path)
    yield seat
    seat.close()


def test_a_terminal_has_completion_hints_and_a_connection_that_comes_back(
    monitored: Peer, seat: Seat
) -> None:
    terminal = seat.terminal
    terminal.type(f"clear; {sys.executable} -m qmon -connect hmp:unix:{monitored.folder / 'm'}\r")
    terminal.wait_for(r"^\(qemu m\)$")
    terminal.type("info regist")
    terminal.press("Tab")
    terminal.wait_for(r"\) info registers|^ +registers ")
    terminal.press("C-u")
    terminal.type("info versoin\r")
    terminal.wait_for(r"^unknown command: 'info versoin'\nDid you mean 'info version'\?$")
    terminal.type("help info name\r")
    terminal.wait_for(r"^info name +-- ")
    monitored.start_again_for_others()
    terminal.wait_for(r"is\s+lost:\s+the\s+other\s+end\s+closed\s+it")
    terminal.wait_for(r"^Connected to hmp:\S+ again")
    terminal.type("info name\r")
    terminal.wait_for("^web1$")
    terminal.type("quit\r")
    terminal.wait_for(r"\?.*y")
    terminal.type("y")
    terminal.wait_for(r"^\$ $")
    assert monitored.process.wait(PATIENCE) == 0


def test_a_monitor_that_is_stuck_can_be_left(monitored: Peer, seat: Seat) -> None:
    terminal = seat.terminal
    address = f"hmp:unix:{monitored.folder / 'm'}"
    terminal.type(f"clear; {sys.executable} -m qmon -connect {address}; echo status $?\r")
    terminal.wait_for(r"^\(qemu m\)$")
    monitored.process.send_signal(signal.SIGSTOP)
    try:
        terminal.type("info name\r")
        terminal.press("C-c")
        terminal.wait_for(r"info name\n(.*\n)*\(qemu m\)$")
        terminal.press("C-d")
        terminal.wait_for(r"^status 0$")
    finally:
        monitored.process.send_signal(signal.SIGCONT)


def test_a_line_that_nobody_waits_for_any_more_does_not_answer_the_next_one(
    monitored: Peer, seat: Seat
) -> None:
    terminal = seat.terminal
    terminal.type(f"clear; {sys.executable} -m qmon -connect hmp:unix:{monitored.folder / 'm'}\r")
    terminal.wait_for(r"^\(qemu m\)$")
    monitored.process.send_signal(signal.SIGSTOP)
    terminal.type("info status\r")
    terminal.press("C-c")
    terminal.wait_for(r"info status\n(.*\n)*\(qemu m\)$")
    terminal.type("info name\r")
    monitored.process.send_signal(signal.SIGCONT)
    terminal.wait_for(r"info name\nweb1$")
    assert "VM status" not in terminal.screen()

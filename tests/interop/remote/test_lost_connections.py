"""A connection that is lost: what a line, a script and a console are told, and how it is taken up again."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import struct
import subprocess
import termios
from collections.abc import Callable
from pathlib import Path
from typing import cast

from qmon.qmp.target import Event
from tests.support.connections import connected_monitor
from tests.support.fake_target import FakePerson
from tests.support.peer import Peer
from tests.support.processes import CHECKOUT, QMON, gone
from tests.support.terminal import Terminal
from tests.support.waiting import PATIENCE, eventually


def die(qemu: Peer) -> None:
    """End it as a crash does."""
    qemu.process.kill()
    qemu.process.wait()


def connect(qemu: Peer, *options: str) -> subprocess.Popen[str]:
    """A qmon that takes lines from a pipe."""
    return subprocess.Popen(
        [*QMON, "-connect", f"unix:{qemu.qmp_path}", *options],
        cwd=qemu.folder,
        env={**os.environ, "PYTHONPATH": str(CHECKOUT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def give(qmon: subprocess.Popen[str], line: str) -> str:
    """Give a line; return the first line of its answer."""
    assert qmon.stdin is not None
    assert qmon.stdout is not None
    qmon.stdin.write(f"{line}\n")
    qmon.stdin.flush()
    return qmon.stdout.readline()


def test_a_script_fails_when_the_connection_is_lost_between_two_lines(qemu: Peer) -> None:
    with connect(qemu, "-keep-going") as qmon:
        assert give(qmon, "info status") == "VM status: running\n"
        die(qemu)
        qmon.wait(PATIENCE)  # its standard input is still open
        _, errors = qmon.communicate()
    assert errors == f"qmon: the connection to unix:{qemu.qmp_path} was lost: the other end closed it\n"
    assert qmon.returncode == 1


def test_a_line_that_runs_then_is_called_unknown_and_no_other_line_runs(qemu: Peer) -> None:
    with connect(qemu, "-keep-going", "-trace-qmp") as qmon:
        assert qmon.stdin is not None
        assert give(qmon, "info status") == "VM status: running\n"
        os.kill(qemu.process.pid, signal.SIGSTOP)
        qmon.stdin.write("stop\ninfo name\n")
        qmon.stdin.flush()
        assert qmon.stderr is not None
        while "stop" not in qmon.stderr.readline():
            pass
        die(qemu)
        output, errors = qmon.communicate(timeout=PATIENCE)
    assert output == ""
    lost = f"the connection to unix:{qemu.qmp_path} was lost: whether the command took effect is not known"
    assert f"stdin:2: Error: {lost}\nstdin:2: failed: stop\n" in errors
    assert "info name" not in errors
    assert qmon.returncode == 1


def unread(sock: socket.socket) -> int:
    """How many bytes that were sent the other end has not read (Linux, unix(7), SIOCOUTQ)."""
    count: int = struct.unpack("i", fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]
    return count


def events_of(names: list[str]) -> Callable[[Event], None]:
    return lambda event: names.append(event.name)


def test_it_is_taken_up_again_and_nothing_is_sent_twice(qemu: Peer) -> None:
    async def run() -> None:
        async with connected_monitor(f"unix:{qemu.qmp_path}") as (remote, monitor):
            remote.reconnects = True
            names: list[str] = []
            back = asyncio.Event()
            remote.subscribe(events_of(names))
            remote.subscribe(lambda event: back.set() if event.name == "X_QMON_CONNECTION_BACK" else None)
            person = FakePerson()
            os.kill(qemu.process.pid, signal.SIGSTOP)
            pending = asyncio.create_task(monitor.run_line("stop", person))
            with contextlib.closing(cast(socket.socket, remote.duplicate())) as sent:
                await asyncio.to_thread(eventually, lambda: unread(sent), "the line is on its way")
            die(qemu)
            assert not await pending
            assert "whether the command took effect is not known" in person.said()
            assert not await monitor.run_line("stop", person)
            assert "nothing was sent" in person.said()
            await asyncio.to_thread(qemu.start_again)
            await asyncio.wait_for(back.wait(), PATIENCE)
            assert await monitor.run_line("info status", person)
            assert person.said() == "VM status: running"
            assert await monitor.run_line("stop", person)
            await asyncio.to_thread(eventually, lambda: len(names) >= 3, "all is told")
            assert names == ["X_QMON_CONNECTION_LOST", "X_QMON_CONNECTION_BACK", "STOP"]

    asyncio.run(run())


def test_a_console_tells_of_both_and_goes_on(qemu: Peer, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "tmux", 220, XDG_STATE_HOME=str(tmp_path))
    try:
        terminal.type(f"clear; {QMON[0]} -m qmon -connect unix:{qemu.qmp_path}\r")
        terminal.wait_for(r"^\(qemu web1\)$")
        die(qemu)
        terminal.wait_for(r"^The connection to unix:.* is lost: .*: qmon connects again")
        terminal.type("info status\r")
        terminal.wait_for(r"^Error: not connected to .*nothing was sent$")
        qemu.start_again()
        terminal.wait_for(r"^Connected to unix:.* again$")
        terminal.type("info status\r")
        terminal.wait_for(r"^VM status: running$")
        qemu.monitor.command("stop")
        terminal.wait_for(r"^The machine is stopped$")
        terminal.press("C-d")
        terminal.wait_for(r"^\$ $")
        assert qemu.process.poll() is None
    finally:
        terminal.close()


def test_quit_is_asked_about_at_a_terminal(qemu: Peer, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "tmux", 220, XDG_STATE_HOME=str(tmp_path))
    try:
        terminal.type(f"clear; {QMON[0]} -m qmon -connect unix:{qemu.qmp_path}\r")
        terminal.wait_for(r"^\(qemu web1\)$")
        terminal.type("quit\r")
        terminal.wait_for(r"end it\? \(y/n\)")
        terminal.type("n")
        terminal.wait_for(r"^The machine goes on$")
        assert qemu.process.poll() is None
        terminal.type("quit\r")
        terminal.wait_for(r"end it\? \(y/n\)$")
        terminal.type("y")
        terminal.wait_for(r"^\$ $")
        assert qemu.process.wait(PATIENCE) == 0
    finally:
        terminal.close()


def test_a_closed_terminal_ends_the_console_alone(qemu: Peer, tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "tmux", 220, XDG_STATE_HOME=str(tmp_path))
    pid = tmp_path / "pid"
    terminal.type(f"sh -c 'echo $$ >{pid}; exec {QMON[0]} -m qmon -connect unix:{qemu.qmp_path}'\r")
    terminal.wait_for(r"^\(qemu web1\)$")
    terminal.close()
    eventually(lambda: gone(int(pid.read_text())), "the console ends")
    assert qemu.command("info status") == "VM status: running"

"""Consoles of a qmon that runs already: ``-connect NAME``."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, same
from tests.support.ports import free_port
from tests.support.processes import CHECKOUT, gone
from tests.support.runs import Done, run
from tests.support.terminal import Terminal
from tests.support.waiting import eventually


class Desk:
    """Terminals with a console each, beside qmons whose state is in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.state = folder / "state"
        self.elsewhere = folder / "elsewhere"
        self.elsewhere.mkdir()
        self._terminals: list[Terminal] = []

    def begin(self, *options: str, name: str = "web1", within: Path | None = None) -> int:
        """Start a qmon in the background; return its process id."""
        pidfile = self.folder / f"{name}.pid"
        done = run(
            "-daemonize",
            "-name",
            name,
            "-pidfile",
            str(pidfile),
            *self._here,
            *options,
            cwd=within or self.folder,
        )
        assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
        return int(pidfile.read_text())

    def console(self, name: str = "web1", *options: str, within: Path | None = None) -> Terminal:
        """A console on a terminal of its own, at its prompt."""
        terminal = self.shell()
        self.connect(terminal, name, *options, within=within)
        terminal.wait_for(rf"^\(qemu {name}\) ?$")
        return terminal

    def shell(self) -> Terminal:
        terminal = Terminal(self.folder / f"tmux{len(self._terminals)}", XDG_STATE_HOME=str(self.folder))
        self._terminals.append(terminal)
        return terminal

    def connect(self, terminal: Terminal, name: str, *options: str, within: Path | None = None) -> None:
        words = [sys.executable, "-m", "qmon", "-connect", name, *self._here, *options]
        where = f"cd {shlex.quote(str(within or self.folder))}; PYTHONPATH={CHECKOUT}"
        terminal.type(f"clear; {where} {shlex.join(words)}; echo status $?\r")

    def lines(self, *lines: str, name: str = "web1", cwd: Path | None = None) -> Done:
        words = [word for line in lines for word in ("-c", line)]
        return run("-connect", name, *self._here, *words, cwd=cwd or self.folder)

    @property
    def _here(self) -> list[str]:
        return ["-statedir", str(self.state), "-no-user-config"]

    def forget(self, terminal: Terminal) -> None:
        """Close a terminal no more."""
        self._terminals.remove(terminal)

    def close(self) -> None:
        for terminal in self._terminals:
            terminal.close()
        for record in (self.state / "run").glob("*.json"):
            pid = int(record.name.partition(".")[0])
            if not gone(pid):
                os.kill(pid, signal.SIGTERM)
                eventually(lambda pid=pid: gone(pid), "it ends")  # type: ignore[misc] # a lambda's default has no type


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    try:
        yield desk
    finally:
        desk.close()


def test_two_consoles_see_what_the_other_does_and_leaving_ends_nothing(desk: Desk) -> None:
    filled(desk.folder / "d0.img", 8 * MIB)
    pid = desk.begin(*drive(desk.folder / "d0.img"))
    one, other = desk.console(), desk.console()
    one.type("stop\r")
    other.wait_for("^The machine is stopped$")
    other.type("info status\r")
    other.wait_for(r"^VM status: paused$")
    other.type("cont\r")
    one.wait_for("^The machine runs$")
    one.press("C-d")
    one.wait_for("^status 0$")
    other.type("exit\r")
    other.wait_for("^status 0$")
    assert not gone(pid)
    assert desk.lines("info status").stdout == "VM status: running\n"


def test_a_closed_terminal_ends_nothing(desk: Desk) -> None:
    pid = desk.begin()
    one, other = desk.console(), desk.console()
    one.close()
    desk.forget(one)
    other.type("info status\r")
    other.wait_for("^VM status: running$")
    assert not gone(pid)


def test_quit_asks_before_it_ends_what_all_use(desk: Desk) -> None:
    pid = desk.begin()
    one, other = desk.console(), desk.console()
    one.type("quit\r")
    one.wait_for(r"This ends the machine at web1 .*\(y/n\)")
    one.type("n")
    one.wait_for("^The machine goes on$")
    assert not gone(pid)
    one.type("quit\r")
    one.wait_until(lambda screen: screen.count("(y/n)") == 2, "the question again")
    one.type("y")
    one.wait_for("^status 0$")
    other.wait_for("^The machine at web1 has ended$")
    other.wait_for("^status 0$")
    eventually(lambda: gone(pid), "it has ended")
    assert os.listdir(desk.state / "run") == []


def test_a_migration_is_watched_from_every_console(desk: Desk) -> None:
    filled(desk.folder / "a.img", 32 * MIB)
    blank(desk.folder / "b.img", 32 * MIB)
    port = free_port()
    desk.begin(*drive(desk.folder / "b.img"), "-incoming", f"tcp:127.0.0.1:{port}", name="web2")
    desk.begin(*drive(desk.folder / "a.img"))
    one, other = desk.console(), desk.console()
    one.type("migrate_set_parameter max-bandwidth 256K\r")
    one.type(f"migrate blk tcp:127.0.0.1:{port}\r")
    one.wait_for(r"^migrate .*%")
    other.type("wait migrate\r")
    other.wait_for(r"^migration .*%")
    there = desk.console("web2")
    there.type("info migrate\r")
    there.wait_for(r"(?i)^ *(status|state)\b.*active|receiving")
    assert desk.lines("migrate_set_parameter max-bandwidth 1G").returncode == 0
    one.wait_for("^Migrated 32 MiB")
    other.wait_for("32 MiB")
    there.wait_for(r"(?i)migrat\w+ .*completed|^Migrated|arrived")
    assert desk.lines("info status", name="web2").stdout == "VM status: running\n"
    desk.lines("quit", name="web2")
    desk.lines("quit")
    assert same(desk.folder / "a.img", desk.folder / "b.img")


def test_names_of_files_belong_to_the_running_ones_folder(desk: Desk) -> None:
    blank(desk.elsewhere / "there.img", MIB)
    desk.begin(within=desk.elsewhere)
    console = desk.console()
    console.wait_until(
        lambda screen: f"belong to the folder {desk.elsewhere}" in screen.replace("\n", ""), "where files are"
    )
    console.type("drive_add 0 file=the")
    console.press("Tab")
    console.wait_until(lambda screen: "file=there.img" in screen.replace("\n", ""), "the name is complete")
    console.type(",format=raw,if=none,id=d0\r")
    console.wait_for("^OK$")
    done = desk.lines("info block d0")
    assert "d0 (#block" in done.stdout
    assert done.stderr == f"qmon: names of files belong to the folder {desk.elsewhere}\n"
    assert desk.lines("info block d0", cwd=desk.elsewhere).stderr == ""


def test_a_wrong_name_lists_those_that_run(desk: Desk) -> None:
    pid = desk.begin()
    done = desk.lines("info status", name="nosuch")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "qmon: -connect nosuch: no qmon has the name or process id 'nosuch':"
        f" these run: web1 (process {pid})\n"
    )
    assert desk.lines("info name", name=str(pid)).stdout == "web1\n"


def test_a_killed_one_leaves_nothing_that_disturbs(desk: Desk) -> None:
    pid = desk.begin()
    os.kill(pid, signal.SIGKILL)
    eventually(lambda: gone(pid), "it has ended")
    assert len(os.listdir(desk.state / "run")) == 2
    assert "none runs with its state in" in desk.lines("info status").stderr
    assert os.listdir(desk.state / "run") == []


def test_a_console_finds_its_machine_again_after_a_restart(desk: Desk) -> None:
    pid = desk.begin()
    console = desk.console()
    os.kill(pid, signal.SIGKILL)
    console.wait_for("^The connection to web1 is lost")
    desk.begin()
    console.wait_for("^Connected to web1 again$")
    console.type("info name\r")
    console.wait_for("^web1$")


def test_a_script_on_a_running_one_has_the_status_of_its_lines(desk: Desk) -> None:
    pid = desk.begin()
    done = desk.lines("stop", "info status", "exit", "cont")
    assert (done.returncode, done.stdout, done.stderr) == (0, "VM status: paused\n", "")
    done = desk.lines("info status", "eject nosuch")
    assert done.returncode == 1
    assert "Device 'nosuch' not found" in done.stderr
    assert not gone(pid)


def test_the_sockets_are_their_owners_alone(desk: Desk) -> None:
    pid = desk.begin()
    run_folder = desk.state / "run"
    assert run_folder.stat().st_mode & 0o777 == 0o700
    assert (run_folder / f"{pid}.qmp").stat().st_mode & 0o777 == 0o600
    assert desk.lines("info chardev").stdout == ""

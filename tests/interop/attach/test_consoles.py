"""Consoles of a qmon that runs already: ``-connect NAME``."""

from __future__ import annotations

import os
import shlex
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, drive, filled
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

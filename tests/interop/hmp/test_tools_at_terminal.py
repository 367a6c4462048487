"""The tools for people where people are: at a terminal."""

from __future__ import annotations

import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled
from tests.support.processes import Lab
from tests.support.terminal import Terminal

SECRET = "5ezam"
CLOCK = r"\[\d\d:\d\d:\d\d\](?: \(Ctrl-C ends it\))?"


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", 120, XDG_STATE_HOME=str(tmp_path))
    yield terminal
    terminal.close()


def begin(terminal: Terminal, *options: str) -> None:
    command = shlex.join([sys.executable, "-m", "qmon", *options])
    terminal.type(f"clear; {command}\r")
    terminal.wait_for(r"^\(qemu\) $")


def test_watching_and_waiting_are_ended_by_ctrl_c(terminal: Terminal) -> None:
    begin(terminal, "-incoming", "defer", "-name", "web1")
    terminal.type("watch 0.2 info name\r")
    terminal.wait_for(rf"^\(qemu\) watch 0.2 info name\n{CLOCK}\nweb1$")
    terminal.press("C-c")
    terminal.wait_for(rf"^\(qemu\) watch 0.2 info name\n{CLOCK}\nweb1\n\^C\n\(qemu\) $")
    terminal.type("wait migrate\r")
    terminal.wait_for(r"wait migrate\nmigration \[")
    terminal.press("C-c")
    terminal.wait_for(r"\^C\nThe migration continues\n\(qemu\) $")
    terminal.type("info status\r")
    terminal.wait_for(r"VM status: paused \(inmigrate\)\n\(qemu\) $")


def test_a_watched_answer_takes_the_place_of_the_one_before(lab: Lab, terminal: Terminal) -> None:
    disks = [*drive(blank(lab.folder / "a", MIB)), *drive(blank(lab.folder / "b", MIB), "d1")]
    socket = lab.folder / "qmon.sock"
    begin(terminal, *disks, "-monitor", "stdio", "-monitor", f"unix:{socket},server,nowait")
    terminal.type("watch 0.1 info block\r")
    terminal.wait_for(rf"^\(qemu\) watch 0.1 info block\n{CLOCK}\nd0 (?:.*\n)+\nd1 .*")
    with HmpClient(socket) as other:
        assert other.command("drive_del d1") == ""
    answer = r"d0 .*\n    Removable device: .*\n    Cache mode: .*\n"
    alone = re.compile(rf"^\(qemu\) watch 0.1 info block\n{CLOCK}\n{answer}\Z", re.MULTILINE)
    terminal.wait_until(lambda screen: alone.search(screen + "\n") is not None, "d0 alone")
    terminal.type("typed meanwhile")
    terminal.wait_for(rf"{CLOCK}\n{answer}typed meanwhile$")
    terminal.press("C-c")
    terminal.wait_for(rf"{CLOCK}\n{answer}\^C\n\(qemu\) typed meanwhile$")
    terminal.press("C-c")
    terminal.type("quit\r")  # else it runs on without its terminal, for the other monitor
    terminal.wait_for(r"^\$ $")


def test_a_watched_answer_is_cut_where_the_screen_ends(terminal: Terminal) -> None:
    terminal.resize(60, 12)
    begin(terminal)
    terminal.type("watch 0.1 help\r")
    terminal.wait_for(rf"^{CLOCK}\n(?:.*\n)+\(\d+ more lines: the screen is too small\)$")
    terminal.press("C-c")
    terminal.wait_for(r"^\(\d+ more lines: the screen is too small\)\n\^C\n\(qemu\) $")


def test_a_terminal_that_only_takes_text_shows_one_answer_after_another(tmp_path: Path) -> None:
    terminal = Terminal(tmp_path / "dumb", 80, XDG_STATE_HOME=str(tmp_path), TERM="dumb")
    try:
        begin(terminal, "-name", "web1")
        terminal.type("watch -n 3 0.1 info name\r")
        terminal.wait_for(rf"^\(qemu\) watch .*\n(?:{CLOCK}\nweb1\n){{3}}\(qemu\) $")
    finally:
        terminal.close()


def test_quiet_and_traced(terminal: Terminal) -> None:
    begin(terminal, "-q", "-trace-qmp", "-m", "1")
    assert "qmon 0" not in terminal.screen()
    assert "ignored" not in terminal.screen()
    terminal.type("info name\r")
    terminal.wait_for(
        r'^\(qemu\) info name\n-> \{"execute": "query-name"\}\n<- \{"return": \{\}\}\n\(qemu\) $'
    )
    terminal.type("qmp query-name\r")
    terminal.wait_for(r"\n\{\n\}\n\(qemu\) $")


def test_passwords_are_not_kept_in_the_history(terminal: Terminal, tmp_path: Path) -> None:
    begin(terminal)
    terminal.type("info name\r")
    for line in (f"set_password vnc {SECRET}", f"time change vnc password {SECRET}"):
        terminal.type(f"{line}\r")
        terminal.wait_for(rf"^\(qemu\) {line}\n(?:.+\n)+\(qemu\) $")
    terminal.type("info uuid\r")
    terminal.wait_for(r"^00000000-.*\n\(qemu\) $")
    assert (tmp_path / "qmon" / "history").read_text() == "info name\ninfo uuid\n"


def test_yes_is_said_before_it_is_asked(lab: Lab, terminal: Terminal) -> None:
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = lab.start("target", *drive(blank(lab.folder / "b", 4 * MIB)), "-incoming", uri)
    begin(terminal, "-y", *drive(filled(lab.folder / "a", 4 * MIB)))
    terminal.type(f"migrate_set_parameter max-bandwidth 100k\rmigrate -d blk {uri}\r")
    target.wait_migration("active")
    terminal.type("quit\r")
    terminal.wait_for(r"^Quit anyway\? \(y/n\) y\n\$ $")
    target.wait_migration("failed")

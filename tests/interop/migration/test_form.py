"""A person at a terminal reads the migration from a form: before, during and after, and after a restart."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, same
from tests.support.processes import QMON, Lab
from tests.support.terminal import Terminal

CLOCK = r"\[\d\d:\d\d:\d\d\](?: \(Ctrl-C ends it\))?"
END = "\n(qemu) "


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", 80, 50, XDG_STATE_HOME=str(tmp_path))
    yield terminal
    terminal.close()


def begin(terminal: Terminal, *options: str) -> None:
    terminal.type(f"clear; {shlex.join([*QMON, *options])}\r")
    terminal.wait_for(r"^\(qemu\) $")


def shown(terminal: Terminal, line: str) -> str:
    """What the terminal shows of a line's answer."""
    echo = f"(qemu) {line}\n"
    before = terminal.screen().count(echo)
    terminal.type(f"{line}\r")
    ended = f"the end of '{line}'"
    screen = terminal.wait_until(lambda screen: screen.count(echo) > before and screen.endswith(END), ended)
    return screen.rpartition(echo)[2].removesuffix(END)


def test_the_form_tells_the_migration_from_its_beginning_to_a_restart(lab: Lab, terminal: Terminal) -> None:
    image, empty = filled(lab.folder / "a", 4 * MIB), blank(lab.folder / "b", 4 * MIB)
    uri = f"unix:{lab.folder / 'in'}"
    lab.start("target", *drive(empty), "-incoming", uri)
    begin(terminal, *drive(image))
    settings = r"Settings:    max-bandwidth 100 KiB/s, downtime-limit 300 ms"
    terminal.type("migrate_set_parameter max-bandwidth 100k\r")
    assert shown(terminal, "info migrate") == f"Migration:   none so far\n{settings}"

    terminal.type(f"migrate -d blk {uri}\rwatch 0.1 info migrate\r")
    screen = terminal.wait_for(r"^d0 +[1-9]\d?% +4 MiB +[\d.]+ MiB")
    assert re.search(rf"^{CLOCK}\nMigration:   copying \(active\) for \d+ s\n", screen, re.MULTILINE)
    assert settings in screen.split("\n")
    terminal.press("C-c")
    screen = terminal.wait_for(r"\n\^C\n\(qemu\) $")
    assert screen.count("Migration:") == 2

    terminal.type("migrate_set_parameter max-bandwidth 0\rwait migrate\r")
    terminal.wait_for(r"^\(qemu\) wait migrate\n(?:.*\n)*\(qemu\) $")
    lines = shown(terminal, "info migrate").split("\n")
    assert re.fullmatch(
        r"Migration:   moved \(completed\) after \S+ s: the destination has the disks", lines[0]
    )
    assert any(re.match(r"d0 +100% +4 MiB +0 B", line) for line in lines)
    assert same(image, empty)

    terminal.type("quit\r")
    terminal.wait_for(r"^\$ $")
    begin(terminal, *drive(image))
    lines = shown(terminal, "info migrate").split("\n")
    assert lines[0] == "Migration:   moved (completed): the destination has the disks"
    assert re.fullmatch(r"Ended: {7}20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", lines[1])

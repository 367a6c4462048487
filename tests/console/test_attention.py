"""The operator is called at the end of a long migration, in a way that the terminal understands."""

from __future__ import annotations

from pathlib import Path

import pytest

from qmon.console.attention import LONG_SECONDS, Attention, notification
from qmon.qmp.target import Event
from tests.console.screens import trigger
from tests.support.terminal import OpenTerminal
from tests.support.waiting import eventually


def sent(*course: tuple[str, float], **environ: str) -> list[str]:
    """What is sent when a migration takes a course: statuses, each with the seconds since the start."""
    sequences: list[str] = []
    now = [0.0]
    attention = Attention(sequences.append, environ, lambda: now[0])
    for status, seconds in course:
        now[0] = seconds
        attention.hear(Event("MIGRATION", {"status": status}))
        attention.hear(Event("STOP", {}))
    return sequences


def test_only_a_long_migration_rings() -> None:
    long, short = LONG_SECONDS + 1, LONG_SECONDS - 1
    assert sent(("setup", 0), ("active", 1), ("device", long), ("completed", long)) == ["\a"]
    assert sent(("setup", 0), ("active", 1), ("failed", long)) == ["\a"]
    assert sent(("setup", 0), ("active", 1), ("device", short), ("completed", short)) == []
    assert sent(("completed", long)) == [], "its start was not seen"


def test_a_doubt_rings_and_a_switchover_does_not() -> None:
    long = LONG_SECONDS + 1
    assert sent(("setup", 0), ("active", 1), ("device", long), ("device", long + 30)) == ["\a"]
    assert sent(("setup", 0), ("device", long), ("active", long), ("device", long)) == []


def test_a_cancel_does_not_ring() -> None:
    assert sent(("setup", 0), ("active", 1), ("cancelling", 90), ("cancelled", 90)) == []


def test_the_notification_follows_the_bell() -> None:
    course = (("setup", 0.0), ("completed", 90.0))
    assert sent(*course, TERM_PROGRAM="iTerm.app") == ["\a\x1b]9;qmon: The migration has completed\a"]


@pytest.mark.parametrize(
    ("environ", "sequence"),
    [
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "\x1b]9;qmon: Done\a"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "\x1b]9;qmon: Done\a"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "\x1b]777;notify;qmon;Done\a"),
        ({"TERM": "xterm-kitty"}, "\x1b]777;notify;qmon;Done\a"),
        ({"TERM": "foot-extra"}, "\x1b]777;notify;qmon;Done\a"),
        ({"TERM": "rxvt-unicode-256color"}, "\x1b]777;notify;qmon;Done\a"),
        ({"TERM": "xterm-256color"}, ""),
        ({"TERM": "linux"}, ""),
        ({"TERM": "tmux-256color", "TERM_PROGRAM": "tmux"}, ""),
        ({"TERM": "screen", "LC_TERMINAL": "iTerm2"}, ""),
        ({"TERM": "foot", "TMUX": "/tmp/tmux-0/default,1,0"}, ""),
        ({"TERM": "rxvt-unicode", "STY": "1.pts-0.host"}, ""),
        ({}, ""),
    ],
)
def test_a_terminal_that_might_print_it_gets_none(environ: dict[str, str], sequence: str) -> None:
    assert notification("Done", environ) == sequence


@pytest.mark.parametrize(("term", "rings"), [("xterm-256color", 1), ("dumb", 0)])
@pytest.mark.parametrize("detach", ["", "-d "])
def test_the_bell_rings_once_on_a_terminal_that_has_one(
    open_terminal: OpenTerminal, tmp_path: Path, term: str, rings: int, detach: str
) -> None:
    (tmp_path / "impatient").touch()
    terminal = open_terminal(TERM=term)
    terminal.start(tmp_path)
    raw = tmp_path / "raw"
    terminal.record(raw)
    terminal.type(f"migrate {detach}tcp:0:4444\r")
    terminal.wait_for(r"4444\n\(qemu\) $" if detach else "50%")
    trigger(tmp_path, "complete")
    terminal.wait_for(r"^Migrat(?:ed|ion completed).*\n(?:.*\n)*\(qemu\) $")
    terminal.type("print/d 1001*1001\r")
    eventually(lambda: b"1002001" in raw.read_bytes(), "all is recorded")
    assert raw.read_bytes().count(b"\a") == rings

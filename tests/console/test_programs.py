"""Other programs on the console's terminal: a pager for long answers, an editor for the line."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from qmon.console.answers import rows_of
from qmon.console.programs import editor_command, pager_command
from qmon.errors import UsageError
from tests.console.screens import RAN, UNKNOWN, trigger
from tests.support.peers import require
from tests.support.terminal import OpenTerminal, Terminal

LONG = "help all\r"
"""A line with an answer that no screen holds."""
SEEN_LAST = r"^use for\)"


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.fixture
def open_console(open_terminal: OpenTerminal, tmp_path: Path) -> OpenTerminal:
    """Open a console that has SIGINT for itself, as qmon's."""
    (tmp_path / "catches-interrupts").touch()

    def open_one(columns: int = 100, rows: int = 30, **environ: str) -> Terminal:
        terminal = open_terminal(columns, rows, **environ)
        terminal.start(tmp_path)
        return terminal

    return open_one


@pytest.mark.parametrize("how", ["q", "C-c"])
def test_a_long_answer_is_paged_and_the_prompt_comes_back(
    open_console: OpenTerminal, tmp_path: Path, how: str
) -> None:
    require("less")
    console = open_console()
    console.type(LONG)
    console.wait_for(r"^:$")
    trigger(tmp_path, "log")
    console.press("Space")
    console.wait_for(r"^NBD exports:")
    console.press(how)
    console.wait_for(r"^client 7 has gone\n\(qemu\) $")
    console.type("info status\r")
    console.wait_for_end(f"{RAN}(qemu) ")


def test_what_fits_the_screen_is_not_paged(open_console: OpenTerminal, tmp_path: Path) -> None:
    pager = script(tmp_path / "pager", "echo paged; cat")
    console = open_console(PAGER=str(pager))
    console.type("help migrate\r")
    console.wait_for(r"^migrate \[-n\](?:.*\n)+\(qemu\) $")
    assert "paged" not in console.screen()
    console.type(LONG)
    console.wait_for(rf"{SEEN_LAST}\n\(qemu\) $")


def test_the_tasks_fit_a_screen(open_console: OpenTerminal, tmp_path: Path) -> None:
    pager = script(tmp_path / "pager", "echo paged; cat")
    console = open_console(80, 24, PAGER=str(pager))
    console.type("help\r")
    screen = console.wait_for(r"^ +help all .*\n\(qemu\) $")
    assert "disks  " in screen
    assert "paged" not in screen


def test_a_pasted_lines_answer_is_not_paged(open_console: OpenTerminal, tmp_path: Path) -> None:
    pager = script(tmp_path / "pager", "cat > /dev/null")
    console = open_console(PAGER=str(pager))
    console.paste("help all\ninfo status\n")
    console.wait_for(rf"{SEEN_LAST}\n(?:.*\n)*\(qemu\) info status\n.*\n\(qemu\) $")


@pytest.mark.parametrize(
    ("pager", "said"),
    [
        ("no-such-pager -x", "The pager failed: no-such-pager: No such file or directory"),
        ("false", "The pager failed: false: exit status 1"),
        ("cat", ""),
        ("", ""),
    ],
)
def test_without_a_pager_nothing_is_lost(open_console: OpenTerminal, pager: str, said: str) -> None:
    console = open_console(PAGER=pager, rows=250)
    console.resize(100, 40)
    console.type(LONG)
    console.wait_for(rf"{SEEN_LAST}\n\(qemu\) $")
    console.resize(100, 250)
    console.wait_for(r"^General:")
    assert ("The pager failed" in console.screen()) == bool(said)
    assert said in console.screen()


def test_a_dumb_terminal_is_never_paged(open_console: OpenTerminal, tmp_path: Path) -> None:
    pager = script(tmp_path / "pager", "cat > /dev/null")
    console = open_console(TERM="dumb", PAGER=str(pager))
    console.type(LONG)
    console.wait_for(rf"{SEEN_LAST}\n\(qemu\) $")


def test_the_machines_end_takes_the_pager_away(open_console: OpenTerminal, tmp_path: Path) -> None:
    require("less")
    console = open_console()
    console.type(LONG)
    console.wait_for(r"^:$")
    trigger(tmp_path, "shutdown")
    console.wait_for(r"^ended with 0$")
    console.type("stty -a | grep -ow 'icanon\\|echo'\r")
    console.wait_for(r"^icanon\necho$")


@pytest.mark.parametrize("term", ["tmux", "dumb"])
def test_the_line_is_edited_by_the_editor_and_run_by_enter(
    open_console: OpenTerminal, tmp_path: Path, term: str
) -> None:
    editor = script(tmp_path / "editor", 'echo now editing; read word; echo "info $word" > "$1"')
    console = open_console(TERM=term, EDITOR=str(editor))
    console.type("stop")
    console.wait_for(r"^\(qemu\) stop$")
    console.press("C-x", "C-e")
    console.wait_for(r"^now editing$")
    trigger(tmp_path, "log")
    console.wait_until(lambda screen: not (tmp_path / "log").exists(), "a warning")
    console.type("status\r")
    console.wait_for(r"^client 7 has gone\n(?:\(qemu\) stop\n)?\(qemu\) info status$")
    console.press("Enter")
    console.wait_for_end(f"{RAN}(qemu) ")


def test_an_editor_that_fails_leaves_the_line(open_console: OpenTerminal, tmp_path: Path) -> None:
    script(tmp_path / "editor", 'echo quit > "$1"; exit 3')
    console = open_console(200, VISUAL=f"{tmp_path}/editor")
    console.type("info status")
    console.press("C-x", "C-e")
    console.wait_for_end(f"The line was not changed: {tmp_path}/editor: exit status 3\n(qemu) info status")
    console.press("Enter")
    console.wait_for_end(f"{RAN}(qemu) ")


def test_control_c_in_an_editor_is_the_editors(open_console: OpenTerminal, tmp_path: Path) -> None:
    editor = script(
        tmp_path / "editor",
        'trap "echo interrupted; echo info status > $1; exit 0" INT\n'
        "echo editing; while :; do sleep 0.1; done",
    )
    console = open_console(EDITOR=str(editor))
    console.press("C-x", "C-e")
    console.wait_for(r"^editing$")
    console.press("C-z", "C-c")
    console.wait_for(r"interrupted\n\(qemu\) info status$")


def test_several_lines_from_the_editor_run_in_order(open_console: OpenTerminal, tmp_path: Path) -> None:
    editor = script(tmp_path / "editor", 'printf "info status\\nfoo\\nstop\\n" > "$1"')
    console = open_console(EDITOR=str(editor))
    console.press("C-x", "C-e")
    console.wait_for(r"^\(qemu\) info status\nfoo\nstop$")
    assert "!" not in console.whole()  # each line is judged by itself
    console.press("Enter")
    console.wait_for_end(f"{RAN}{UNKNOWN}1 waiting line was not run\n(qemu) ")


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({}, ["less", "-FRX"]),
        ({"PAGER": "more -d"}, ["more", "-d"]),
        ({"PAGER": ""}, None),
        ({"PAGER": "/bin/cat -n"}, None),
        ({"PAGER": "'open"}, None),
    ],
)
def test_the_pager_is_the_users(environ: dict[str, str], words: list[str] | None) -> None:
    assert pager_command(environ) == words


def test_the_editor_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert editor_command({"VISUAL": "vi -n", "EDITOR": "ed"}) == ["vi", "-n"]
    assert editor_command({"VISUAL": "", "EDITOR": "ed"}) == ["ed"]
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError, match="No editor"):
        editor_command({})


def test_wide_characters_count_twice() -> None:
    assert rows_of("x" * 80, 80) == 1
    assert rows_of("界" * 41, 80) == 2
    assert rows_of("a\n\nb", 80) == 3

"""Keys that edit the line: Emacs' and vi's, the search in the history, wide characters."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.console.screens import RAN, STATUS, UNKNOWN, seen
from tests.support.terminal import OpenTerminal, Terminal


def test_emacs_keys_edit_the_line(console: Terminal) -> None:
    console.type("fo status")
    console.press("C-a")
    console.type("in")
    console.press("C-e", "C-w")
    console.type("sttus")
    console.press("M-b", "C-f", "C-f")
    console.type("a")
    console.press("Enter")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")


def test_vi_keys_are_chosen_by_a_command_and_their_mode_is_shown(console: Terminal) -> None:
    console.type("keys\r")
    console.wait_for_end("(qemu) keys\nkeys: emacs\n(qemu) ")
    console.type("keys vi\r")
    seen(console, "\n qmon | running | vi: insert")
    console.type("info statuz")
    console.press("Escape")
    seen(console, "\n! unknown command: 'info statuz' | vi: command")
    console.type("rs")
    seen(console, "(qemu) info status\n")
    console.press("Enter")
    console.wait_for_end(f"{RAN}(qemu) ")
    console.type("keys emacs\r")
    console.wait_whole(lambda screen: screen.endswith("(qemu)\n qmon | running"), "no mode any more")
    console.type("keys nano\r")
    console.wait_for_end("keys: expected emacs or vi, found 'nano'\n(qemu) ")


def test_the_history_is_searched_backwards(console: Terminal) -> None:
    console.type("info status\r")
    console.wait_for_end(f"{RAN}(qemu) ")
    console.type("print/d 7\r")
    console.wait_for_end("(qemu) print/d 7\n7\n(qemu) ")
    console.press("C-r")
    console.type("sta")
    seen(console, "7\n(qemu) info status\nI-search backward: sta\n")
    console.press("Enter")
    seen(console, "7\n(qemu) info status\n qmon |")
    console.press("Enter")
    console.wait_for_end(f"{RAN}(qemu) ")
    console.press("C-r")
    console.type("sta")
    seen(console, "I-search backward: sta\n")
    console.press("C-c")
    console.wait_for_end(f"{RAN}(qemu) ")
    console.type("print/d 8\r")
    console.wait_for_end("(qemu) print/d 8\n8\n(qemu) ")


def test_what_is_pasted_while_the_history_is_searched_runs(console: Terminal) -> None:
    console.press("C-r")
    seen(console, "I-search backward:")
    console.paste("info status\nfoo\n")
    console.wait_for_end(f"hello\n{RAN}{UNKNOWN}(qemu) ")


@pytest.mark.parametrize("term", ["tmux", "dumb"])
def test_wide_characters_are_typed_taken_back_and_shown(
    open_terminal: OpenTerminal, tmp_path: Path, term: str
) -> None:
    console = open_terminal(TERM=term)
    console.start(tmp_path)
    console.type("info 漢字界")
    console.wait_for(r"^\(qemu\) info 漢字界$")
    console.press("BSpace", "BSpace", "BSpace")
    console.type("status # 字\r")
    console.wait_for_end(f"(qemu) info status # 字\n{STATUS}\n(qemu) ")


def test_a_wide_line_wraps_on_a_narrow_terminal(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    console = open_terminal(60)
    console.start(tmp_path)
    console.type("info status # " + "漢字" * 12)
    console.wait_until(lambda screen: screen.replace("\n", "").endswith("漢字" * 12), "the whole line")
    console.press("Enter")
    console.wait_for(rf"^{STATUS}\n\(qemu\) $")


def test_a_line_with_a_password_is_not_kept(console: Terminal, tmp_path: Path) -> None:
    console.type("set_password vnc hunter2\r")
    console.wait_for(r"^Error: Could not set password\n\(qemu\) $")
    console.type("info status\r")
    console.wait_for_end(f"{RAN}(qemu) ")
    history = (tmp_path / "state" / "history").read_text()
    assert "info status" in history
    assert "hunter2" not in history

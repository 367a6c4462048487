"""Text around commands, pasted on a real terminal: what is asked, and what runs."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.console.screens import RAN, trigger
from tests.support.terminal import OpenTerminal, Terminal

HIDDEN = "Remove the quotes and prompts: 'info status'"
MAIL = """\
Dear list,

> 1. info status
> 2. info\u00a0status

Bob
"""
ASKED = """\
Pasted text: 2 of 4 lines are commands:
  info status
  info status
Left out:
  line 1: Dear list,
  line 6: Bob
Run them? (y/n)"""


def asked(console: Terminal) -> str:
    """Wait for the question, and return the screen."""
    return console.wait_for(r"^Run (?:them|it)\? \(y/n\)")


def test_the_commands_in_a_mail_are_shown_and_run_after_yes(console: Terminal) -> None:
    console.paste(MAIL)
    console.wait_for_end(f"hello\n{ASKED}")
    console.type("y")
    console.wait_for_end(f"hello\n{ASKED} y\n{RAN}{RAN}(qemu) ")


def test_after_no_nothing_runs(console: Terminal) -> None:
    console.paste("> stop\n> info status\n> co")
    assert "Left at the prompt" not in asked(console)
    console.type("n")
    console.wait_for_end("Run them? (y/n) n\n2 waiting lines were not run\n(qemu) ")
    console.type("info status\r")
    console.wait_for_end(f"2 waiting lines were not run\n{RAN}(qemu) ")


def test_control_c_is_a_no(console: Terminal) -> None:
    console.paste(MAIL)
    asked(console)
    console.press("C-c")
    console.wait_for(r"^\^C\n2 waiting lines were not run\n\(qemu\) $")


def test_with_the_option_y_nothing_is_asked(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    (tmp_path / "says-yes").touch()
    console = open_terminal()
    console.start(tmp_path)
    console.paste(MAIL)
    console.wait_for_end(f"{ASKED} y\n{RAN}{RAN}(qemu) ")


def test_a_transcript_with_answers_is_asked_about(console: Terminal) -> None:
    console.paste("(qemu) info status\nVM status: paused\n  (qemu)info status\n")
    console.wait_for_end(
        "Pasted text: 2 of 3 lines are commands:\n  info status\n  info status\n"
        "Left out:\n  line 2: VM status: paused\nRun them? (y/n)"
    )
    console.type("y")
    console.wait_for_end(f"Run them? (y/n) y\n{RAN}{RAN}(qemu) ")


def test_a_transcript_without_answers_runs_at_once(console: Terminal) -> None:
    console.paste("  (qemu) info status\n\x1b[1m(qemu)\x1b[m info status\n")
    console.wait_for_end(f"hello\n{RAN}{RAN}(qemu) ")


def test_the_unfinished_last_command_waits_at_the_prompt(console: Terminal) -> None:
    console.paste("> info status\n> info status")
    console.wait_for(r"^Left at the prompt:\n  info status\nRun it\? \(y/n\)")
    console.type("y")
    console.wait_for_end(f"Run it? (y/n) y\n{RAN}(qemu) info status")
    console.press("Enter")
    console.wait_for_end(f"{RAN}{RAN}(qemu) ")


def test_one_decorated_command_is_put_at_the_prompt(console: Terminal) -> None:
    console.paste("$ virsh qemu-monitor-command vm --hmp 'info status'")
    console.wait_for_end("hello\n(qemu) info status")
    console.press("Enter")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")


def test_it_is_asked_after_the_running_command(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    console.paste(MAIL)
    console.type("foo\r")
    console.wait_for(r"50%")
    trigger(tmp_path, "complete")
    console.wait_for_end(ASKED)
    console.type("n")
    console.wait_for_end("Run them? (y/n) n\n3 waiting lines were not run\n(qemu) ")


def test_a_running_command_that_fails_drops_the_text_too(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    console.paste(MAIL)
    console.press("C-c")
    screen = console.wait_for(r"^\^C\n(?:.*\n)?2 waiting lines were not run\n\(qemu\) $")
    assert "Pasted text" not in screen


def test_it_is_asked_after_another_question(console: Terminal) -> None:
    console.type("ask\r")
    console.wait_for(r"^Throw it away\? \(y/n\)")
    console.paste(MAIL)
    console.type("y")
    console.wait_for_end(f"Throw it away? (y/n) y\nthrown away\n{ASKED}")
    console.type("y")
    console.wait_for_end(f"Run them? (y/n) y\n{RAN}{RAN}(qemu) ")


def test_an_event_is_told_while_it_is_asked(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate -d tcp:0:4444\r")
    console.wait_for(r"^\(qemu\) $")
    console.paste(MAIL)
    asked(console)
    trigger(tmp_path, "complete")
    console.wait_for(r"^Migration completed.*\n(?:.*\n)*Run them\? \(y/n\)")


def test_a_secret_is_not_shown(console: Terminal) -> None:
    console.paste("> set_password vnc topsecret\nvirsh $(x) --hmp 'set_password vnc hidden'\nsee above.\n")
    screen = asked(console)
    assert "  set_password vnc ***\n" in screen
    assert "topsecret" not in screen
    assert "hidden" not in screen


def test_a_line_that_will_fail_is_shown_with_its_error(console: Terminal) -> None:
    console.paste("1. block_resize d0 12Q\n2. stop\n")
    assert "\n  block_resize d0 12Q  ! block_resize: extraneous characters" in asked(console)


def test_of_many_lines_some_are_shown(console: Terminal) -> None:
    lines = [f"- print/d {number}" for number in range(1, 5001)]
    console.paste("\n".join(["answer 1:"] * 300 + lines) + "\n")
    screen = asked(console)
    assert "5,000 of 5,300 lines are commands:\n  print/d 1\n" in screen
    assert "  print/d 8\n  ... 4,989 more lines ...\n  print/d 4998\n" in screen
    assert "  line 3: answer 1:\n  ... 297 more lines\n" in screen
    console.type("n")
    console.wait_for_end("5000 waiting lines were not run\n(qemu) ")


def test_long_lines_are_clipped_where_they_are_shown_only(
    open_terminal: OpenTerminal, tmp_path: Path
) -> None:
    console = open_terminal(40, 20)
    console.start(tmp_path)
    console.paste(f"> info status # {'long ' * 20}\n{'words ' * 20}\n")
    screen = asked(console)
    assert "\n  info status # long long long long...\n" in screen
    console.type("y")
    console.wait_for(r"long long long\n(?:.*\n)*VM status: running\n\(qemu\) $")


def test_it_works_in_vi_mode(console: Terminal) -> None:
    console.type("keys vi\r")
    console.wait_for(r"^\(qemu\) $")
    console.press("Escape")
    console.paste(MAIL)
    asked(console)
    console.type("y")
    console.wait_for_end(f"Run them? (y/n) y\n{RAN}{RAN}(qemu) ")
    console.type("info status\r")
    console.wait_for_end(f"{RAN}{RAN}{RAN}(qemu) ")


def test_what_was_typed_stays_at_the_prompt(console: Terminal) -> None:
    console.type("info sta")
    console.wait_for(r"^\(qemu\) info sta$")
    console.paste(MAIL)
    asked(console)
    console.type("y")
    console.wait_for_end(f"Run them? (y/n) y\n{RAN}{RAN}(qemu) info sta")


def test_lines_that_a_program_types_are_not_changed(console: Terminal) -> None:
    console.type("$ info status\r")
    console.wait_for_end(f"hello\n(qemu) $ info status\nunknown command: '$'\n{HIDDEN}\n(qemu) ")
    console.paste("$ info status\n$ stop\n", bracketed=False)
    console.wait_for_end(f"unknown command: '$'\n{HIDDEN}\n1 waiting line was not run\n(qemu) ")


def test_a_paste_is_asked_about_in_plain_mode_too(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    terminal = open_terminal(XDG_STATE_HOME=str(tmp_path), XDG_CONFIG_HOME=str(tmp_path))
    terminal.type(f"clear; {sys.executable} -m qmon -plain\r")
    terminal.wait_for(r"^\(qemu\) $")
    terminal.paste(MAIL)
    terminal.wait_for_end(ASKED)
    terminal.type("y")
    terminal.wait_for_end(f"Run them? (y/n) y\n{RAN}{RAN}(qemu) ")

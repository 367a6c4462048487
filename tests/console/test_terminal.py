"""The console in a real terminal: what a person sees."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from qmon.console.terminal import BURST_GAP
from tests.console.screens import RAN, STATUS, UNKNOWN, trigger
from tests.support.terminal import OpenTerminal, Terminal
from tests.support.waiting import PATIENCE

ANNOUNCEMENT = """\
    (qemu) migrate -d tcp:0:4444          # for ordinary live migration
    (qemu) migrate -d blk tcp:0:4444      # for live migration with complete storage copy
    (qemu) migrate -d blk inc tcp:0:4444  # for live migration with incremental storage copy"""

both_ways = pytest.mark.parametrize("bracketed", [True, False], ids=["bracketed", "unbracketed"])


def test_a_line_runs_and_the_prompt_comes_back(console: Terminal) -> None:
    console.type("info status\r")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")


def test_a_line_typed_with_a_prompt_runs_without_it(console: Terminal) -> None:
    console.type("(qemu) info status\r")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")


def test_the_completion_menu_shows_each_command_with_its_meaning(console: Terminal) -> None:
    console.type("migrate_c")
    console.wait_for(r"^ +migrate_cancel +\w+")
    console.press("Tab")
    console.wait_for(r"^\(qemu\) migrate_cancel ?$")


def test_history_outlives_the_program_and_is_private(console: Terminal, tmp_path: Path) -> None:
    console.type("info status\r")
    console.wait_for_end(f"{RAN}(qemu) ")
    console.press("C-d")
    console.wait_for(r"^ended with 0")
    history = tmp_path / "state" / "history"
    assert stat.S_IMODE(history.stat().st_mode) == 0o600
    assert stat.S_IMODE(history.parent.stat().st_mode) == 0o700
    console.start(tmp_path)
    console.press("Up")
    console.wait_for(r"^\(qemu\) quit$")
    console.press("Up")
    console.wait_for(r"^\(qemu\) info status$")


def test_a_history_that_cannot_be_written_is_said_once(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file where the folder would be")
    console = open_terminal()
    console.start(tmp_path)
    console.type("info status\rinfo status\r")
    screen = console.wait_for_end(f"{RAN}{RAN}(qemu) ")
    assert screen.count("The history is not saved") == 1


@both_ways
def test_pasted_lines_run_one_by_one_up_to_the_one_that_fails(console: Terminal, bracketed: bool) -> None:
    lines = ["info status", "# nothing", "foo", "info status", "", "# nothing", "stop", "cont"]
    console.paste("\n".join(lines) + "\n", bracketed=bracketed)
    console.wait_for_end(f"hello\n{RAN}(qemu) # nothing\n{UNKNOWN}3 waiting lines were not run\n(qemu) ")
    console.type("info status\r")
    console.wait_for_end(f"3 waiting lines were not run\n{RAN}(qemu) ")


@both_ways
def test_a_long_paste_arrives_as_a_whole(console: Terminal, bracketed: bool) -> None:
    # past what a pseudo-terminal holds at once, so that it comes in pieces
    lines = ["info status"] * 100 + ["foo"] + [f"info status # {'x' * 60}"] * 300
    console.paste("\n".join(lines) + "\n", bracketed=bracketed)
    console.wait_for_end(f"{RAN}{UNKNOWN}300 waiting lines were not run\n(qemu) ")


def test_of_a_transcript_that_arrives_at_once_only_the_prompts_lines_run(console: Terminal) -> None:
    text = "Dear list,\n(qemu) info status\nVM status: paused\n  (qemu) foo\nunknown\n(qemu) stop\n"
    console.paste(text, bracketed=False)
    left_out = "3 lines without a (qemu) prompt were not run, first line 1: Dear list,\n"
    console.wait_for_end(f"hello\n{left_out}{RAN}{UNKNOWN}1 waiting line was not run\n(qemu) ")


def test_a_prompt_without_a_space_is_one_beside_those_that_have_it(console: Terminal) -> None:
    console.paste("(qemu)info status\n(qemu) info status\ninfo status\n", bracketed=False)
    left_out = "line 3 has no (qemu) prompt and was not run: info status\n"
    console.wait_for_end(f"hello\n{left_out}{RAN}{RAN}(qemu) ")


@both_ways
def test_the_announcement_pasted_at_once_leaves_one_line(console: Terminal, bracketed: bool) -> None:
    console.paste(ANNOUNCEMENT, bracketed=bracketed)
    console.press("Enter")
    screen = console.wait_for_end(
        "Error: There's a migration process in progress\n1 waiting line was not run\n(qemu) "
    )
    assert screen.count("(qemu) migrate -d") == 2


def test_a_pasted_piece_of_a_line_is_there_to_be_edited(console: Terminal) -> None:
    console.type("info")
    console.paste(" status")
    console.wait_for(r"^\(qemu\) info status$")
    console.press("Enter")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")
    console.paste("  (qemu) info status # as it is")
    console.wait_for(r"^\(qemu\) info status # as it is$")
    console.press("Enter")
    console.wait_for_end(f"(qemu) info status # as it is\n{STATUS}\n(qemu) ")


@both_ways
def test_the_last_line_of_a_paste_without_its_end_is_one_enter_away(
    console: Terminal, bracketed: bool
) -> None:
    console.paste("info status\ninfo status", bracketed=bracketed)
    console.wait_for_end(f"hello\n{RAN}(qemu) info status")
    console.press("Enter")
    console.wait_for_end(f"hello\n{RAN}{RAN}(qemu) ")


@both_ways
def test_what_is_pasted_while_a_command_runs_waits_for_it(
    console: Terminal, tmp_path: Path, bracketed: bool
) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    lines = ["info status"] * 99 + ["foo"] + ["stop"] * 100
    console.paste("\n".join(lines) + "\n", bracketed=bracketed)
    console.type("cont\r")
    time.sleep(4 * BURST_GAP)  # so that the paste is over before the command is
    trigger(tmp_path, "complete")
    screen = console.wait_for_end(f"{RAN}{UNKNOWN}101 waiting lines were not run\n(qemu) ")
    assert "%" not in screen.partition("info status")[2]


def test_control_c_stops_the_command_and_what_waits_for_it_but_not_the_program(console: Terminal) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    console.paste("stop\n")
    console.press("C-c")
    screen = console.wait_for(r"^\^C\n(?:.*\n)?1 waiting line was not run\n\(qemu\) $")
    assert "%" not in screen
    console.type("info status\r")
    console.wait_for_end(f"{RAN}(qemu) ")


def test_control_c_at_the_prompt_clears_the_line(console: Terminal) -> None:
    console.type("stop")
    console.wait_for(r"^\(qemu\) stop$")
    console.press("C-c")
    console.wait_for_end("hello\n(qemu) ")
    console.type("info status\r")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")


def test_control_d_quits_and_leaves_the_terminal_as_it_was(console: Terminal) -> None:
    console.press("C-d")
    console.wait_for_end("hello\n(qemu) quit\nended with 0\n$ ")
    console.type("stty -a | grep -ow 'icanon\\|echo'\r")
    console.wait_for(r"^icanon\necho$")


def test_control_d_behind_text_does_not_quit(console: Terminal) -> None:
    console.type("info status")
    console.press("C-d", "Enter")
    console.wait_for_end(f"hello\n{RAN}(qemu) ")


def test_the_console_ends_with_the_machine_in_the_middle_of_a_line(console: Terminal, tmp_path: Path) -> None:
    console.type("info sta")
    console.wait_for(r"^\(qemu\) info sta$")
    trigger(tmp_path, "shutdown")
    console.wait_for_end("hello\nended with 0\n$ ")


def test_the_console_ends_with_the_machine_while_a_command_runs(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    trigger(tmp_path, "shutdown")
    console.wait_for_end("(qemu) migrate tcp:0:4444\nended with 0\n$ ")


def test_events_and_log_records_appear_above_the_line_being_typed(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate -d tcp:0:4444\r")
    console.wait_for(r"^\(qemu\) $")
    console.type("info sta")
    console.wait_for(r"^\(qemu\) info sta$")
    trigger(tmp_path, "fail")
    console.wait_for(r"^Migration failed: Connection reset by peer\n\(qemu\) info sta$")
    trigger(tmp_path, "log")
    console.wait_for(r"^client 7 has gone\n\(qemu\) info sta$")
    console.type("tus\r")
    console.wait_for_end(f"client 7 has gone\n{RAN}(qemu) ")


@pytest.mark.parametrize("columns", [100, 60, 30])
def test_the_progress_bar_fits_the_terminal(
    open_terminal: OpenTerminal, tmp_path: Path, columns: int
) -> None:
    console = open_terminal(columns)
    console.start(tmp_path)
    console.type("migrate tcp:0:4444\r")
    screen = console.wait_for(r"\[#+\.+\]  50%")
    bar = screen.splitlines()[-1]
    assert len(bar) < columns
    assert ("128 MiB/256 MiB" in bar) == (columns >= 60)
    assert ("/s" in bar) == (columns >= 60)
    trigger(tmp_path, "complete")
    screen = console.wait_for(r"^\(qemu\) $")
    assert "%" not in screen


def test_a_migration_that_was_watched_is_not_announced_again(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    trigger(tmp_path, "complete")
    console.wait_for(r"^\(qemu\) $")
    console.type("info status\r")
    assert "Migration completed" not in console.wait_for_end(f"{RAN}(qemu) ")


def test_a_cancelled_migration_is_announced(console: Terminal) -> None:
    console.type("migrate -d tcp:0:4444\rmigrate_cancel\r")
    console.wait_for_end("(qemu) migrate_cancel\nMigration cancelled\n(qemu) ")


@pytest.mark.parametrize("term", ["tmux", "dumb"])
def test_a_question_waits_for_yes_or_no(open_terminal: OpenTerminal, tmp_path: Path, term: str) -> None:
    console = open_terminal(TERM=term)
    console.start(tmp_path)
    asked = "(qemu) ask\nThrow it away? (y/n)"
    console.type("ask\r")
    console.wait_for(re.escape(asked))
    console.paste("ask\ny\n", bracketed=False)  # its letters are no answer
    time.sleep(10 * BURST_GAP)  # what follows at once would be a part of it
    console.press("x")
    console.wait_for(r"^Throw it away\? \(type y or n\) *$")
    console.press("y")
    console.wait_for_end(f"Throw it away? (type y or n) y\nthrown away\n{asked}")
    console.press("n")
    console.wait_for_end(
        f"{asked} n\nkept\nType 'help' to find a command\n1 waiting line was not run\n(qemu) "
    )
    console.type("ask\r")
    console.wait_for(f"not run\n{re.escape(asked)}")
    console.press("C-c")
    console.wait_for(r"^\^C\n\(qemu\) $")


def test_a_resized_terminal_shows_the_line_being_typed(console: Terminal) -> None:
    console.type("info status # and a rather long comment that will not fit")
    console.wait_for(r"will not fit$")
    console.resize(40, 20)
    console.wait_for(r"^\(qemu\) info status # and a rather long c\nomment that will not fit$")
    console.press("Enter")
    console.wait_for(rf"omment that will not fit\n{STATUS}\n\(qemu\) $")


def test_a_resized_terminal_shows_the_bar(console: Terminal, tmp_path: Path) -> None:
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"^migrate \[#+\.+\]  50%")
    console.resize(50, 20)
    console.wait_for(r"^\[#+\.+\]  50%  128 MiB/256 MiB")
    console.resize(100, 30)
    console.wait_for(r"^migrate \[#+\.+\]  50%")
    trigger(tmp_path, "complete")
    console.wait_for(r"^\(qemu\) $")


def test_colours_unless_they_are_not_wanted(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    colour = re.compile(r"\x1b\[(?:\d+;)*(?:3[0-7]|9[0-7])m")
    for number, environ in enumerate([{}, {"NO_COLOR": "1"}]):
        console = open_terminal(**environ)
        console.start(tmp_path)
        console.type("info status\r")
        console.wait_for_end(f"{RAN}(qemu) ")
        assert bool(colour.search(console.coloured())) == (number == 0)


class TestDumbTerminal:
    """``TERM=dumb``: nothing but text, a line after another."""

    @pytest.fixture
    def console(self, open_terminal: OpenTerminal, tmp_path: Path) -> Terminal:
        terminal = open_terminal(TERM="dumb")
        terminal.start(tmp_path)
        return terminal

    def test_lines_are_typed_corrected_and_run(self, console: Terminal) -> None:
        console.type("info statux")
        console.wait_for(r"^\(qemu\) info statux$")
        console.press("BSpace")
        console.type("s\r")
        console.wait_for_end(f"hello\n{RAN}(qemu) ")

    def test_pasted_lines_run_one_by_one(self, console: Terminal) -> None:
        console.paste("info status\nfoo\nstop\n", bracketed=False)
        console.wait_for_end(f"hello\n{RAN}{UNKNOWN}1 waiting line was not run\n(qemu) ")

    def test_progress_is_a_line_now_and_then(self, console: Terminal, tmp_path: Path) -> None:
        console.type("migrate tcp:0:4444\r")
        console.wait_for(r"^migrate: 50%, 128 MiB/256 MiB")
        trigger(tmp_path, "complete")
        screen = console.wait_for(r"^\(qemu\) $")
        assert screen.count("%") <= 4

    def test_an_event_leaves_the_line_being_typed_whole(self, console: Terminal, tmp_path: Path) -> None:
        console.type("info sta")
        console.wait_for(r"^\(qemu\) info sta$")
        trigger(tmp_path, "log")
        console.wait_for_end("client 7 has gone\n(qemu) info sta")
        console.type("tus\r")
        console.wait_for_end(f"{RAN}(qemu) ")

    def test_no_escape_sequence_is_written(self, tmp_path: Path) -> None:
        # on a pseudo-terminal without tmux, which would obey what must not even be written
        ours, theirs = os.openpty()
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.support.console_program", str(tmp_path)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**os.environ, "TERM": "dumb"},
        )
        os.close(theirs)
        seen = b""
        with open(ours, "r+b", buffering=0) as terminal:
            while b"(qemu) " not in seen:
                seen += terminal.read(1024)
            terminal.write(b"info status\rquit\r")
            while b"ended with 0" not in seen:
                seen += terminal.read(1024)
            assert program.wait(PATIENCE) == 0
        assert STATUS.encode() in seen
        assert b"\x1b" not in seen

    def test_control_d_quits(self, console: Terminal) -> None:
        console.press("C-d")
        console.wait_for_end("hello\n(qemu) quit\nended with 0\n$ ")


class TestLostTerminal:
    """A pseudo-terminal of the test's own, so that it can be taken away."""

    @pytest.mark.parametrize("term", ["tmux", "dumb"])
    def test_the_console_ends_when_its_terminal_has_gone(self, tmp_path: Path, term: str) -> None:
        ours, theirs = os.openpty()
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.support.console_program", str(tmp_path)],
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "TERM": term},
        )
        os.close(theirs)
        seen = b""
        while b"(qemu)" not in seen:
            seen += os.read(ours, 1024)
        os.close(ours)
        program.wait(PATIENCE)
        assert (tmp_path / "status").read_text() == "0"

    def test_an_interrupt_from_outside_leaves_the_terminal_as_it_was(self, tmp_path: Path) -> None:
        ours, theirs = os.openpty()
        before = termios.tcgetattr(theirs)
        program = subprocess.Popen(
            [sys.executable, "-m", "tests.support.console_program", str(tmp_path)],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
        )
        seen = b""
        while b"(qemu)" not in seen:
            seen += os.read(ours, 1024)
        assert termios.tcgetattr(theirs) != before
        program.send_signal(signal.SIGINT)
        program.wait(PATIENCE)
        assert termios.tcgetattr(theirs) == before
        os.close(theirs)
        os.close(ours)

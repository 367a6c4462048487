"""Leaving while a migration is under way: a person is asked first."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.console.screens import RAN, trigger
from tests.support.terminal import OpenTerminal, Terminal

STARTED = "hello\n(qemu) migrate -d tcp:0:4444\n"
THERE_IS = "A migration is under way and will be cancelled: 'wait migrate' waits until it ends\n"
QUESTION = f"{THERE_IS}Quit anyway? (y/n)"
IN_DOUBT = "Migration in doubt: it is not known whether the destination runs\n"


@pytest.fixture
def console(open_terminal: OpenTerminal, tmp_path: Path) -> Terminal:
    """The console as qmon runs it, with a migration in the background."""
    (tmp_path / "catches-interrupts").touch()
    terminal = open_terminal()
    terminal.start(tmp_path)
    terminal.type("migrate -d tcp:0:4444\r")
    terminal.wait_for_end(f"{STARTED}(qemu) ")
    return terminal


def hand_over(console: Terminal, folder: Path) -> None:
    trigger(folder, "device")
    console.wait_until(lambda screen: not (folder / "device").exists(), "the handover begins")


def interrupt(folder: Path) -> None:
    os.kill(int((folder / "pid").read_text()), signal.SIGINT)


@pytest.mark.parametrize("how", ["quit", "control d", "interrupt"])
def test_quitting_asks_first_and_takes_no_for_an_answer(console: Terminal, tmp_path: Path, how: str) -> None:
    def leave() -> None:
        match how:
            case "quit":
                console.type("quit\r")
            case "control d":
                console.press("C-d")
            case "interrupt":
                interrupt(tmp_path)

    asked = f"(qemu) quit\n{QUESTION}"
    leave()
    console.wait_for_end(f"{STARTED}{asked}")
    console.press("n")
    kept = f"{asked} n\nqmon keeps running\n"
    console.wait_for_end(f"{kept}(qemu) ")
    console.type("info status\r")
    console.wait_for_end(f"{kept}{RAN}(qemu) ")
    leave()
    console.wait_for_end(f"{RAN}{asked}")
    console.press("y")
    console.wait_for_end(f"{asked} y\nended with 0\n$ ")


def test_lines_behind_a_quit_that_was_not_meant_do_not_run(console: Terminal) -> None:
    console.paste("quit\nstop\n")
    console.wait_for_end(QUESTION)
    console.press("n")
    console.wait_for_end("qmon keeps running\n1 waiting line was not run\n(qemu) ")


def test_what_is_typed_at_once_behind_an_answer_is_a_line(console: Terminal) -> None:
    console.type("quit\r")
    console.wait_for_end(QUESTION)
    console.type("ninfo status\r")
    console.wait_for_end("qmon keeps running\n1 waiting line was not run\n(qemu) ")


def test_control_c_is_no_answer_and_does_not_quit(console: Terminal) -> None:
    console.type("quit\r")
    console.wait_for_end(QUESTION)
    console.press("C-c")
    console.wait_for_end("^C\n(qemu) ")
    console.type("info status\r")
    console.wait_for_end(f"{RAN}(qemu) ")


def test_an_interrupt_takes_the_place_of_the_command_that_runs(console: Terminal, tmp_path: Path) -> None:
    console.type("ask\r")
    console.wait_for_end("Throw it away? (y/n)")
    console.type("stop")
    interrupt(tmp_path)
    console.wait_for(r"^Quit anyway\? \((y/n|type y or n)\)$")
    interrupt(tmp_path)
    console.wait_for(r"(?:^\(qemu\) quit\n.*\n){2}Quit anyway\? \(y/n\)$")
    console.press("n")
    console.wait_for(r"^qmon keeps running$")


def test_nothing_is_asked_when_the_migration_is_over(console: Terminal, tmp_path: Path) -> None:
    trigger(tmp_path, "complete")
    console.wait_for_end("Migration completed\n(qemu) ")
    console.press("C-d")
    console.wait_for_end("(qemu) quit\nended with 0\n$ ")


def test_a_handover_is_not_said_to_be_cancelled(console: Terminal, tmp_path: Path) -> None:
    hand_over(console, tmp_path)
    console.press("C-d")
    console.wait_for_end("The switchover is under way: restart qmon to see its result\nQuit anyway? (y/n)")
    console.press("y")
    console.wait_for(r"^ended with 0$")


def test_doubt_is_told_when_it_arises_and_when_somebody_quits(console: Terminal, tmp_path: Path) -> None:
    hand_over(console, tmp_path)
    console.type("info sta")
    trigger(tmp_path, "doubt")
    console.wait_for(rf"^{IN_DOUBT}\(qemu\) info sta$")
    console.type("tus\r")
    console.wait_for_end(f"{RAN}(qemu) ")
    console.press("C-d")
    console.wait_for_end(
        "(qemu) quit\n"
        "The migration is in doubt: restart qmon, or use migrate_resolve, to settle it\n"
        "Quit anyway? (y/n)"
    )
    console.press("n")
    console.wait_for_end("qmon keeps running\n(qemu) ")
    console.type("migrate_resolve release\r")
    console.wait_for_end("qmon keeps running\n(qemu) migrate_resolve release\nMigration completed\n(qemu) ")


def test_doubt_is_told_to_whoever_waits(console: Terminal, tmp_path: Path) -> None:
    trigger(tmp_path, "complete")
    console.wait_for_end("Migration completed\n(qemu) ")
    console.type("migrate tcp:0:4444\r")
    console.wait_for(r"50%")
    trigger(tmp_path, "doubt")
    screen = console.wait_for(r"^Error: it is not known whether the destination runs\n\(qemu\) $")
    assert "in doubt" not in screen


def test_a_long_question_is_seen_whole_on_a_narrow_terminal(
    open_terminal: OpenTerminal, tmp_path: Path
) -> None:
    console = open_terminal(30)
    console.start(tmp_path)
    console.type("migrate -d tcp:0:4444\r")
    console.wait_for(r"4444\n\(qemu\) $")
    console.type("quit\r")
    whole = QUESTION.replace("\n", "")
    console.wait_until(lambda screen: whole in screen.replace("\n", "") + " (y/n)", whole)


def test_a_warning_from_a_thread_appears_above_the_line_being_typed(
    console: Terminal, tmp_path: Path
) -> None:
    console.type("info sta")
    console.wait_for(r"^\(qemu\) info sta$")
    trigger(tmp_path, "thread")
    console.wait_for(r"^anybody may connect\n\(qemu\) info sta$")
    console.type("tus\r")
    console.wait_for_end(f"anybody may connect\n{RAN}(qemu) ")

"""What is shown around the line being typed: the row below it, the arguments to come, the history's idea."""

from __future__ import annotations

from pathlib import Path

from tests.console.screens import seen
from tests.support.terminal import OpenTerminal, Terminal


def test_what_is_wrong_is_said_below_while_it_is_typed(console: Terminal) -> None:
    seen(console, "\n qmon | running")
    console.type("migrate -q")
    seen(console, "(qemu) migrate -q\n! migrate: unsupported option -q")
    console.press("BSpace")
    seen(console, "(qemu) migrate -\n qmon | running")
    console.type("d tcp:0:1 more")
    seen(console, "\n! migrate: extraneous characters at the end of line")
    console.press("C-c")
    console.wait_whole(lambda screen: screen == "hello\n(qemu)\n qmon | running", "the line is gone")


def test_the_machines_state_is_shown_as_it_changes(console: Terminal) -> None:
    console.type("stop\r")
    seen(console, "\n qmon | paused")
    console.type("cont\r")
    seen(console, "\n qmon | running")
    console.type("migrate -d tcp:0:1\r")
    seen(console, "\n qmon | running | migration active ")
    console.type("migrate_cancel\r")
    console.wait_whole(lambda screen: screen.endswith("\n qmon | running"), "the migration is gone")


def test_the_arguments_to_come_are_shown_in_grey(console: Terminal) -> None:
    console.type("block_resize ")
    seen(console, "(qemu) block_resize device size")
    console.type("d0 ")
    seen(console, "(qemu) block_resize d0 size")
    assert "\x1b[90msize" in console.coloured()
    console.type("1M\r")
    console.wait_for_end("(qemu) ")
    assert "(qemu) block_resize d0 1M\n" in console.screen()


def test_the_history_suggests_how_a_line_goes_on(console: Terminal) -> None:
    console.type("print/x 0x10+0x20\r")
    console.wait_for_end("0x30\n(qemu) ")
    console.type("pri")
    seen(console, "(qemu) print/x 0x10+0x20")
    console.press("Right")
    console.type("\r")
    console.wait_for_end("0x30\n(qemu) print/x 0x10+0x20\n0x30\n(qemu) ")


def test_a_narrow_terminal_cuts_the_row_below(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    terminal = open_terminal(60, 12)
    terminal.start(tmp_path)
    terminal.type("block_set_io_throttle d0 1 2 3 4 5 6 more")
    seen(terminal, "\n! block_set_io_throttle: extraneous characters at the end of")
    assert max(map(len, terminal.whole().split("\n"))) <= 60


def test_a_dumb_terminal_has_nothing_below(open_terminal: OpenTerminal, tmp_path: Path) -> None:
    terminal = open_terminal(TERM="dumb")
    terminal.start(tmp_path)
    terminal.type("migrate -q")
    terminal.wait_for_end("(qemu) migrate -q")
    assert "unsupported" not in terminal.whole()


def test_the_nearest_name_is_suggested_behind_the_error(console: Terminal) -> None:
    console.type("migrte tcp:0:1\r")
    console.wait_for_end("unknown command: 'migrte'\nDid you mean 'migrate'?\n(qemu) ")
    console.type("info stats_\r")
    console.wait_for_end("unknown command: 'info stats_'\nDid you mean 'info stats'?\n(qemu) ")


def test_an_address_is_written_right_below_the_error(console: Terminal) -> None:
    console.type("migrate hostb:4444\r")
    refused = "Error: Parameter 'uri' expects a valid migration protocol"
    console.wait_for_end(f"{refused}\nWrite tcp:hostb:4444\n(qemu) ")
    console.type("migrte\r")
    console.wait_for_end("unknown command: 'migrte'\nDid you mean 'migrate'?\n(qemu) ")

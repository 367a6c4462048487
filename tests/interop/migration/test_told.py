"""What each side's terminal says at the end of a migration: all of it, and nothing twice."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence

import pytest

from tests.support.guest import Guest
from tests.support.images import MIB, blank, drive, filled
from tests.support.processes import QMON, Lab, Qmon
from tests.support.terminal import Terminal

SIZE = 2 * MIB
VERIFIED = "Verified: checksums of every record, flushed"
COMPLETED = rf"^Migration completed: 2 MiB in \d+\.\d s(?:, downtime \d+ ms)?\n{VERIFIED}\n"


@pytest.fixture
def terminal(lab: Lab) -> Iterator[Terminal]:
    terminal = Terminal(lab.folder / "tmux", 160, 30, XDG_STATE_HOME=str(lab.folder))
    yield terminal
    terminal.press("C-u")
    terminal.type("quit\r")
    terminal.wait_for(r"^\$ $")
    terminal.close()


def play(terminal: Terminal, options: Sequence[str], *lines: str) -> None:
    """Start qmon on the terminal, and give it lines."""
    terminal.type(f"clear; {shlex.join([*QMON, *options])}\r")
    terminal.wait_for(r"^\(qemu\) $")
    for line in lines:
        terminal.type(f"{line}\r")
        terminal.wait_for_end(f"(qemu) {line}\n(qemu) ")


def destination(lab: Lab, terminal: Terminal, *lines: str) -> tuple[Qmon, str]:
    """A destination on the terminal, and a source; return the source and the way to the destination."""
    uri = f"unix:{lab.folder}/in"
    play(terminal, [*drive(blank(lab.folder / "b", SIZE)), "-incoming", uri], *lines)
    return lab.start("source", *drive(filled(lab.folder / "a", SIZE))), uri


def test_a_destination_without_an_nbd_server_names_the_lines_that_start_one(
    lab: Lab, terminal: Terminal
) -> None:
    source, uri = destination(lab, terminal)
    source.quietly(f"migrate -d blk {uri}")
    hint = (
        r"No NBD server runs, so guests can't reach the disk: 'nbd_server_start HOST:10809',"
        r" then 'nbd_server_add -w d0'"
    )
    terminal.wait_for(rf"{COMPLETED}{hint}\n\(qemu\) $")


def test_a_destination_without_an_export_names_the_line_that_makes_one(lab: Lab, terminal: Terminal) -> None:
    source, uri = destination(lab, terminal, f"nbd_server_start unix:{lab.folder}/nbd")
    source.quietly(f"migrate -d blk {uri}")
    hint = r"No export has drive 'd0', so guests can't reach it: 'nbd_server_add -w d0'"
    terminal.wait_for(rf"{COMPLETED}{hint}\n\(qemu\) $")


def test_a_destination_that_serves_the_disk_has_no_more_to_say(lab: Lab, terminal: Terminal) -> None:
    serve = (f"nbd_server_start unix:{lab.folder}/nbd", "nbd_server_add -w d0")
    source, uri = destination(lab, terminal, *serve)
    source.quietly(f"migrate -d blk {uri}")
    terminal.wait_for(rf"{COMPLETED}\(qemu\) $")


def test_a_refusal_appears_once_at_the_destination(lab: Lab, terminal: Terminal) -> None:
    source, uri = destination(lab, terminal)
    source.quietly(f"migrate -d {uri}")
    source.wait_migration("failed")
    screen = terminal.wait_for(r"^Migration failed: drive 'd0' is not the same disk on both sides")
    assert screen.count("is not the same disk") == 1, screen


def test_a_source_whose_destination_dies_says_it_once(lab: Lab, terminal: Terminal) -> None:
    uri = f"unix:{lab.folder}/in"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    play(terminal, drive(filled(lab.folder / "a", SIZE)), "migrate_set_parameter max-bandwidth 64k")
    terminal.type(f"migrate -d blk {uri}\r")
    target.wait_migration("active")
    terminal.wait_for(r"^\(qemu\) $")
    target.kill()
    stay = "The disks stay here, and this machine runs on"
    screen = terminal.wait_for(rf"^Migration failed: .*\n{stay}\n\(qemu\) $")
    assert screen.count("the destination") == 1, screen


@pytest.mark.parametrize("detach", ["", "-d "])
def test_a_refusal_appears_once_at_the_source(lab: Lab, terminal: Terminal, detach: str) -> None:
    uri = f"unix:{lab.folder}/in"
    lab.start("target", *drive(blank(lab.folder / "b", SIZE // 2)), "-incoming", uri)
    play(terminal, drive(filled(lab.folder / "a", SIZE)))
    terminal.type(f"migrate {detach}blk {uri}\r")
    screen = terminal.wait_for(
        r"^Error: .*must be equal. There: end qmon, (.|\n)* start\s+it\s+again\n\(qemu\) $"
    )
    terminal.type("info status\r")
    screen = terminal.wait_for(r"^VM status: running\n\(qemu\) $")
    assert screen.count("must be equal") == 1, screen


@pytest.mark.parametrize("detach", ["", "-d "])
def test_a_source_says_what_was_moved_and_who_was_turned_away(
    lab: Lab, terminal: Terminal, detach: str
) -> None:
    uri, socket = f"unix:{lab.folder}/in", lab.folder / "nbd"
    lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    off = "migrate_set_capability x-qmon-forward off"
    serve = (off, f"nbd_server_start unix:{socket}", "nbd_server_add -w d0")
    play(terminal, drive(filled(lab.folder / "a", SIZE)), *serve)
    with Guest(socket, "d0"):
        terminal.wait_for(r"^An NBD client .* connected to export 'd0'\n\(qemu\) $")
        terminal.type(f"migrate {detach}blk {uri}\r")
        first = r"Migrated" if not detach else r"Migration completed:"
        away = (
            r"1 client of export 'd0' was disconnected: the disk is at the destination now\. Clients must"
            r" connect to the export there: export it there if you have not yet"
        )
        terminal.wait_for(rf"^{first} 2 MiB in \d+\.\d s, downtime \d+ ms\n{VERIFIED}\n{away}\n")


def test_quit_at_a_source_that_forwards_names_each_client_once(lab: Lab, terminal: Terminal) -> None:
    uri, socket = f"unix:{lab.folder}/in", lab.folder / "nbd"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    play(
        terminal,
        drive(filled(lab.folder / "a", SIZE)),
        f"nbd_server_start unix:{socket}",
        "nbd_server_add -w d0",
    )
    with Guest(socket, "d0") as guest:
        terminal.wait_for(r"^An NBD client .* connected to export 'd0'\n\(qemu\) $")
        terminal.type(f"migrate blk {uri}\r")
        terminal.wait_for(r"^Migrated 2 MiB (.|\n)*\(qemu\) $")
        terminal.type("quit\r")
        used = "1 NBD client uses export 'd0', which has moved, through this qmon and will get I/O errors"
        screen = terminal.wait_for(rf"^\(qemu\) quit\n{used}\nQuit anyway\? \(y/n\)$")
        assert screen.count("I/O errors") == 1
        terminal.press("n")
        terminal.wait_for(r"^qmon keeps running\n\(qemu\) $")
        guest.write(0, bytes(512))
        assert "Forwarded by the migration's source: 1 client, 1 request, 0 in flight" in target.command(
            "info nbd"
        )
        terminal.type("info nbd\r")
        terminal.wait_for(
            r"the disk has moved to another host, clients are refused, 1 that stays is forwarded"
        )
    terminal.wait_for(r"No requests are forwarded to the destination any more: .*\n\(qemu\) $")

"""Two people at two terminals: one types the announcement's line, both see the guest move."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.ports import free_port
from tests.support.terminal import Terminal
from tests.support.vms.consoles import HOST, open_console
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import eventually


@pytest.fixture
def terminals(tmp_path: Path) -> Iterator[Sequence[Terminal]]:
    with ExitStack() as stack:
        opened = []
        for side in ("source", "destination"):
            terminal = Terminal(tmp_path / f"{side}.tmux", 160, XDG_STATE_HOME=str(tmp_path / side))
            stack.callback(terminal.close)
            opened.append(terminal)
        yield opened


def test_both_see_the_guest_move(terminals: Sequence[Terminal], tmp_path: Path) -> None:
    port = free_port()
    here, there = terminals
    with Pair(tmp_path / "pair", Setup(Version.SEVEN, Version.TEN, disks=2, cdroms=True)) as pair:
        open_console(there, pair.destination, "-incoming", f"tcp:{HOST}:{port}")
        open_console(here, pair.source)
        there.wait_for(rf"Waits at tcp:{HOST}:{port}")
        here.type(f"migrate -d blk tcp:{HOST}:{port}\r")
        for terminal in terminals:
            screen = terminal.wait_for(r"^Migration completed")
            assert "The machine is stopped" not in screen
            assert "The machine runs" not in screen
        here.type("info status\r")
        here.wait_for(r"^VM status: paused \(postmigrate\)")
        there.type("info status\r")
        there.wait_for(r"^VM status: running")
        for terminal in terminals:
            terminal.type("exit\r")
            terminal.wait_for(r"^\$ $")
        assert judge(pair, pair.destination) == []


def test_nobody_leaves_a_moving_guest_without_being_asked(
    terminals: Sequence[Terminal], tmp_path: Path
) -> None:
    port = free_port()
    here, there = terminals
    with Pair(tmp_path / "pair") as pair:
        open_console(there, pair.destination, "-incoming", f"tcp:{HOST}:{port}")
        open_console(here, pair.source)
        here.type("migrate_set_parameter max-bandwidth 64k\r")
        here.type(f"migrate blk tcp:{HOST}:{port}\r")
        there.wait_whole(lambda screen: "| migration active " in screen, "the progress below the prompt")
        here.press("C-d")
        here.wait_for(r"^A migration is under way: it is cancelled if this console leaves")
        here.type("n")
        here.wait_for(r"^The console stays$")
        here.wait_whole(lambda screen: "| migration active " in screen, "the migration goes on")
        there.press("C-d")
        there.wait_for(r"^A migration comes in: it fails if this console leaves")
        there.type("y")
        there.wait_for(r"^\$ $")
        here.wait_for(r"^Migration failed: the connection to the destination was lost")
        here.wait_for(r"^The guest runs on here$")
        here.type("migrate_set_parameter max-bandwidth 128M\r")
        here.press("C-d")
        here.wait_for(r"^\$ $")
        assert judge(pair, pair.source) == []


def test_a_destination_that_was_started_anew_is_waited_at_anew(
    terminals: Sequence[Terminal], tmp_path: Path
) -> None:
    port = free_port()
    here, there = terminals
    with Pair(tmp_path / "pair") as pair:
        open_console(there, pair.destination, "-incoming", f"tcp:{HOST}:{port}")
        open_console(here, pair.source)
        here.type("migrate_set_parameter max-bandwidth 64k\r")
        here.type(f"migrate blk tcp:{HOST}:{port}\r")
        there.wait_whole(lambda screen: "| migration active " in screen, "the progress below the prompt")
        eventually(lambda: pair.source.look.run("query-block-jobs"), "the disk is copied")
        pair.start_destination_anew()
        here.wait_for(r"^Error: the QEMU at the destination has ended$")
        there.wait_for(rf"^A new QEMU: waits again at tcp:{HOST}:{port}$")
        here.type("migrate_set_parameter max-bandwidth 128M\r")
        here.type(f"migrate blk tcp:{HOST}:{port}\r")
        there.wait_for(r"^Migration completed")
        for terminal in terminals:
            terminal.type("exit\r")
            terminal.wait_for(r"^\$ $")
        assert judge(pair, pair.destination) == []

"""The announcement's three lines, pasted into a real terminal as they stand in it."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hmp_client import HmpClient
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.overlays import Host, same_overlays, scatter
from tests.support.peers import require
from tests.support.ports import ANNOUNCED_PORT, announced_port
from tests.support.processes import QMON, Lab, Qmon
from tests.support.terminal import Terminal
from tests.support.waiting import eventually

ORDINARY = "    (qemu) migrate -d tcp:0:4444          # for ordinary live migration\n"
COMPLETE = "    (qemu) migrate -d blk tcp:0:4444      # for live migration with complete storage copy\n"
INCREMENTAL = (
    "    (qemu) migrate -d blk inc tcp:0:4444"
    "  # for live migration with incremental storage copy, storage is cow based\n"
)
REFUSED = "Error: Can't migrate the vm that was paused due to previous migration"
UNDER_WAY = "Error: There's a migration process in progress"
FAILED = "(Error|Migration failed): "
"""Behind -d a failure of the first half second is the line's error, a later one is told."""

MOVED = (
    "The disks have moved to tcp:0:4444: if the destination does not run, cont -f runs this machine with the"
    " old disks"
)
COMPLETED = "Migration completed"

both_ways = pytest.mark.parametrize("bracketed", [True, False], ids=["bracketed", "unbracketed"])


class Operator:
    """Two hosts: a source with its monitor on a terminal, and a destination that waits on port 4444."""

    def __init__(self, lab: Lab, port: int) -> None:
        self._lab = lab
        self._port = port
        self.terminal = Terminal(
            lab.folder / "tmux", 130, 30, XDG_STATE_HOME=str(lab.folder), TERM="xterm-256color"
        )

    def start(self, source: Path, target: Path, image_format: str = "raw") -> Qmon:
        """Start both; return the destination."""
        there = drive(target, format=image_format)
        waiting = self._lab.start("target", *there, "-incoming", f"tcp:0:{self._port}")
        waiting.export("d0")
        monitor = f"unix:{self._lab.folder / 'source.sock'},server,nowait"
        command = [*QMON, *drive(source, format=image_format), "-monitor", "stdio", "-monitor", monitor]
        self.terminal.type(f"clear; {shlex.join(command)}\r")
        self.terminal.wait_for(r"^\(qemu\) $")
        return waiting

    def paste(self, text: str, bracketed: bool) -> None:
        self.terminal.paste(self.as_pasted(text), bracketed=bracketed)

    def as_pasted(self, text: str) -> str:
        """The announcement's text with the port that is used here."""
        return text.replace(str(ANNOUNCED_PORT), str(self._port))

    def shows(self, *rows: str) -> str:
        """Wait until the terminal's last rows are these and a new prompt."""
        return self.terminal.wait_for_end(self.as_pasted("\n".join(rows)) + "\n(qemu) ")

    def completes(self, line: str) -> None:
        """Wait until a migration in the background has completed after a line, and a new prompt."""
        line = re.escape(self.as_pasted(line))
        self.terminal.wait_for(rf"^{line}\n{COMPLETED}.* in .* s, downtime \d+ ms\nVerified: .*\n\(qemu\) $")

    def hurry(self) -> None:
        """Lift the limit, from another monitor."""
        with HmpClient(self._lab.folder / "source.sock") as monitor:
            assert monitor.command("migrate_set_parameter max-bandwidth 1G") == ""

    def type(self, line: str) -> None:
        self.terminal.type(f"{line}\r")

    def close(self) -> None:
        """Quit, and close the terminal when the shell has its prompt again."""
        try:
            self.terminal.press("C-c")
            self.type("quit")
            self.terminal.wait_for(r"^\$ $")
        finally:
            self.terminal.close()


@pytest.fixture
def operator(lab: Lab) -> Iterator[Operator]:
    require("tmux")
    with announced_port() as port:
        operator = Operator(lab, port)
        try:
            yield operator
        finally:
            operator.close()


def echo(line: str) -> str:
    """A pasted line as the terminal shows it."""
    return line.strip()


@both_ways
def test_ordinary_live_migration_hands_a_shared_image_over(
    lab: Lab, operator: Operator, bracketed: bool
) -> None:
    image = filled(lab.folder / "shared.img", 4 * MIB)
    target = operator.start(image, image)
    operator.paste(ORDINARY, bracketed)
    operator.completes(echo(ORDINARY))
    target.wait_status("running")
    with target.guest() as guest:
        guest.write(512, noise(512, 9))
    assert image.read_bytes() == noise(4 * MIB)[:512] + noise(512, 9) + noise(4 * MIB)[1024:]
    operator.type("info status")
    operator.shows("(qemu) info status", "VM status: paused (postmigrate)")


@both_ways
def test_ordinary_live_migration_to_another_disk_is_refused_and_says_what_would_be_right(
    lab: Lab, operator: Operator, bracketed: bool
) -> None:
    image, other = filled(lab.folder / "source.img", 4 * MIB), blank(lab.folder / "t.img", 4 * MIB)
    target = operator.start(image, other)
    operator.paste(ORDINARY, bracketed)
    operator.terminal.wait_for(
        rf"^{FAILED}drive 'd0' is not the same disk on both sides: .* at 0; migrate blk copies it$"
    )
    target.wait_log("migrate blk")
    assert target.status() == "paused (inmigrate)"
    operator.type("info status")
    operator.shows("(qemu) info status", "VM status: running")
    assert not any(other.read_bytes())


@both_ways
@pytest.mark.parametrize("line", [COMPLETE, INCREMENTAL], ids=["complete", "incremental"])
def test_a_storage_copy_brings_the_disk(lab: Lab, operator: Operator, bracketed: bool, line: str) -> None:
    image, empty = (
        filled(lab.folder / "source.img", 8 * MIB + 512),
        blank(lab.folder / "t.img", 8 * MIB + 512),
    )
    target = operator.start(image, empty)
    operator.paste(line, bracketed)
    operator.completes(echo(line))
    target.wait_status("running")
    assert same(image, empty)
    operator.type("info status")
    operator.shows("(qemu) info status", "VM status: paused (postmigrate)")
    assert target.kbytes("transferred disk") >= 8 << 10


@both_ways
def test_an_incremental_copy_brings_an_overlay_and_nothing_of_what_backs_it(
    lab: Lab, operator: Operator, bracketed: bool
) -> None:
    require("qemu-img", "qemu-io")
    source, target = Host(lab.folder / "s"), Host(lab.folder / "t")
    scatter(source.image)
    waiting = operator.start(source.image, target.image, "qcow2")
    operator.paste(INCREMENTAL, bracketed)
    operator.completes(echo(INCREMENTAL))
    waiting.wait_status("running")
    assert waiting.kbytes("transferred disk") < 2 << 10
    waiting.close()
    operator.type("quit")
    operator.terminal.wait_for(r"^\$ $")
    same_overlays(source, target)


@both_ways
def test_all_three_at_once(lab: Lab, operator: Operator, bracketed: bool) -> None:
    """The first moves the machine; the second finds it gone; the third is left, and the console says so.

    Where the first takes longer than half a second, the second finds it under way.
    """
    image = filled(lab.folder / "shared.img", 4 * MIB)
    target = operator.start(image, image)
    operator.paste(ORDINARY + COMPLETE + INCREMENTAL, bracketed)
    screen = operator.terminal.wait_for(r"^1 waiting line was not run$")
    assert screen.count("(qemu) migrate -d") == 2
    gone = "\n".join([echo(COMPLETE), REFUSED, MOVED, "1 waiting line was not run"])
    under_way = "\n".join([echo(COMPLETE), UNDER_WAY, "1 waiting line was not run"])
    assert any(operator.as_pasted(each) in screen for each in (gone, under_way)), screen
    operator.terminal.wait_for(rf"^{COMPLETED}")
    target.wait_status("running")
    assert image.read_bytes() == noise(4 * MIB)
    operator.type("info migrate")
    operator.terminal.wait_for(r"^Migration: +moved \(completed\)")


# Without -d the terminal shows how far it is.


def test_migrate_shows_a_bar_and_its_end(lab: Lab, operator: Operator) -> None:
    image, empty = filled(lab.folder / "source.img", 4 * MIB), blank(lab.folder / "target.img", 4 * MIB)
    operator.start(image, empty)
    operator.type("migrate_set_parameter max-bandwidth 256k")
    operator.paste("migrate blk tcp:0:4444\n", True)
    operator.terminal.wait_for(r"^migrate \[#*\.+\] +\d+%  \S+ \w+/4 MiB  \S+ [KM]iB/s, \d+ s left$")
    operator.hurry()
    screen = operator.terminal.wait_for(r"(?m)^\(qemu\) $")
    assert "[#" not in screen
    assert same(image, empty)


def test_ctrl_c_leaves_the_migration_running_in_the_background(lab: Lab, operator: Operator) -> None:
    image, empty = filled(lab.folder / "source.img", 4 * MIB), blank(lab.folder / "target.img", 4 * MIB)
    operator.start(image, empty)
    operator.type("migrate_set_parameter max-bandwidth 64k")
    operator.paste("migrate blk tcp:0:4444\n", True)
    operator.terminal.wait_for(r"^migrate \[")
    operator.terminal.press("C-c")
    operator.terminal.wait_for(r"^The migration continues in the background")
    operator.type("info migrate")
    operator.terminal.wait_for(r"^Migration: +copying \(active\)")
    operator.hurry()
    operator.terminal.wait_for(rf"^{COMPLETED}")
    assert same(image, empty)


def test_a_migration_that_fails_at_once_is_told_behind_d_too(lab: Lab, operator: Operator) -> None:
    operator.start(filled(lab.folder / "a", MIB), blank(lab.folder / "b", 2 * MIB))
    operator.paste(COMPLETE, True)
    screen = operator.terminal.wait_for(rf"^{FAILED}.*they must be equal\. There: end qmon")
    assert "Traceback" not in screen
    operator.type("info status")
    operator.shows("(qemu) info status", "VM status: running")


def test_a_migration_without_an_end_can_be_cancelled(lab: Lab, operator: Operator) -> None:
    image, empty = filled(lab.folder / "source.img", 4 * MIB), blank(lab.folder / "target.img", 4 * MIB)
    target = operator.start(image, empty)
    operator.type("migrate_set_parameter max-bandwidth 1k")
    operator.paste(COMPLETE, True)
    eventually(lambda: target.migration() == "active", "blocks travel")
    operator.type("migrate_cancel")
    operator.terminal.wait_for(r"^Migration cancelled$")
    operator.type("info status")
    operator.shows("(qemu) info status", "VM status: running")

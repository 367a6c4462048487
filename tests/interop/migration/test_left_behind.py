"""What a copy leaves at the source is said with its number: first, meanwhile and at the end."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled
from tests.support.peers import require
from tests.support.processes import Lab, migrated
from tests.support.qcow2_images import run
from tests.support.runs import run_in
from tests.support.terminal import Terminal
from tests.support.waiting import eventually

SIZE = 2 * MIB
STAYED = "drive 'd0': 3 internal snapshots and 2 dirty bitmaps were not copied"
OFF = " (the capability dirty-bitmaps is off)"
STAY = STAYED.replace("were not", "are not") + OFF


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-img")


def qcow2(path: Path, *, snapshots: int = 0, bitmaps: int = 0, backing: Path | None = None) -> Path:
    """An image with so many of each in it."""
    if backing is None:
        filled(path.with_suffix(".raw"), SIZE)
        run("convert", "-f", "raw", "-O", "qcow2", path.with_suffix(".raw"), path)
    else:
        run("create", "-q", "-f", "qcow2", "-b", backing.name, "-F", "qcow2", path)
    for number in range(snapshots):
        run("snapshot", "-c", f"s{number}", path)
    for number in range(bitmaps):
        run("bitmap", "--add", path, f"b{number}")
    return path


@pytest.fixture
def image(lab: Lab) -> Path:
    return qcow2(lab.folder / "a.qcow2", snapshots=3, bitmaps=2)


def empty(path: Path, *options: object) -> Path:
    run("create", "-q", "-f", "qcow2", *options, path, *([] if options else [str(SIZE)]))
    return path


def test_it_is_said_by_the_monitor_by_info_migrate_and_in_the_log(lab: Lab, image: Path) -> None:
    there = empty(lab.folder / "b.qcow2")
    source, target, uri = lab.pair(
        drive(image, format="qcow2"), drive(there, format="qcow2"), bandwidth="64k"
    )
    assert source.command(f"migrate -d blk {uri}") == f"warning: {STAY}"
    assert source.log() == f"qmon: migration: {STAY}\n"
    assert STAY in source.command("info migrate")
    source.wait_migration("active")
    assert STAY in source.command("info migrate")
    source.quietly("migrate_set_parameter max-bandwidth 0")
    source.wait_migration("completed")
    assert STAYED in source.command("info migrate")
    source.wait_log(f"qmon: migration completed: {STAYED}\n")
    assert source.log().count("not copied") == 2
    target.wait_status("running")
    run("compare", "-U", "-f", "qcow2", "-F", "qcow2", image, there)


def test_it_is_not_said_of_one_that_did_not_come_to_its_end(lab: Lab, image: Path) -> None:
    source = lab.start("source", *drive(image, format="qcow2"))
    said = source.command(f"migrate blk unix:{lab.folder}/nobody").splitlines()
    assert said[-1].startswith("Error: Failed to connect")
    assert said[:-1] in ([], [f"warning: {STAY}"])  # it may have failed before it was asked
    assert "not copied" not in source.command("info migrate")
    assert source.log() == f"qmon: migration: {STAY}\n"


def test_a_line_that_waits_says_it_at_the_end_and_qmp_tells_it(lab: Lab, image: Path) -> None:
    there = empty(lab.folder / "b.qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(there, format="qcow2"))
    said = source.command(f"migrate blk {uri}").splitlines()  # with the progress between, unless it is fast
    assert (said[0], said[-1]) == (f"warning: {STAY}", STAYED), said
    info = json.loads(source.command("qmp query-migrate"))
    assert info["x-qmon-stays-behind"] == [
        {"drive": "d0", "snapshots": 3, "bitmaps": 2, "bitmaps-need": "dirty-bitmaps"}
    ]
    target.wait_status("running")
    assert "x-qmon-stays-behind" not in target.command("qmp query-migrate")


@pytest.mark.parametrize("lines", [("migrate blk {}",), ("migrate -d blk {}", "wait migrate")])
def test_a_script_says_it(lab: Lab, image: Path, lines: tuple[str, ...]) -> None:
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    commands = [word for line in lines for word in ("-c", line.format(uri))]
    done = run_in(lab.folder, *drive(image, format="qcow2"), *commands)
    said = [line for line in done.stdout.splitlines() if not line.startswith("migrat")]  # the progress
    assert (done.returncode, said) == (0, [f"warning: {STAY}", STAYED]), done
    assert f"qmon: migration: {STAY}\n" in done.stderr
    target.wait_status("running")


@pytest.mark.parametrize("mode", ["blk", "blk inc"])
def test_what_is_in_backing_images_stays_behind_where_they_do(lab: Lab, mode: str) -> None:
    base = qcow2(lab.folder / "base.qcow2", snapshots=1, bitmaps=1)
    top = qcow2(lab.folder / "top.qcow2", snapshots=1, backing=base)
    there = empty(lab.folder / "b.qcow2", "-b", base.name, "-F", "qcow2")
    source, target, uri = lab.pair(drive(top, format="qcow2"), drive(there, format="qcow2"))
    said = source.command(f"migrate -d {mode} {uri}").splitlines()
    assert said[0] == "warning: drive 'd0': 1 internal snapshot is not copied"
    of = f"of its backing image '{base}' are not copied"
    below = [f"warning: drive 'd0': 1 internal snapshot and 1 dirty bitmap {of}"]
    assert said[1:] == (below if mode == "blk" else [])
    source.wait_migration("completed")
    target.wait_status("running")


def test_each_drive_is_told_of_read_only_ones_too(lab: Lab, image: Path) -> None:
    other = qcow2(lab.folder / "cd.qcow2", bitmaps=1)
    plain = qcow2(lab.folder / "plain.qcow2")
    here = [
        *drive(image, format="qcow2"),
        *drive(plain, "d1", format="qcow2"),
        *drive(other, "cd0", format="qcow2", readonly="on"),
    ]
    there = [
        *drive(empty(lab.folder / "b0"), format="qcow2"),
        *drive(blank(lab.folder / "b1", SIZE), "d1"),
        *drive(blank(lab.folder / "b2", SIZE), "cd0", readonly="on"),
    ]
    source, target, uri = lab.pair(here, there)
    said = source.command(f"migrate blk {uri}").splitlines()
    assert said[:2] == [f"warning: {STAY}", "warning: drive 'cd0': 1 dirty bitmap is not copied"]
    target.wait_status("running")


def test_nothing_stays_behind_where_the_image_itself_moves_or_has_nothing(lab: Lab, image: Path) -> None:
    (lab.folder / "link.qcow2").symlink_to(image)
    there = drive(lab.folder / "link.qcow2", format="qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), there)
    migrated(source, target, f"migrate -d {uri}")
    assert "not copied" not in source.command("info migrate") + source.log()


def test_what_was_just_made_counts(lab: Lab) -> None:
    image = qcow2(lab.folder / "a.qcow2", bitmaps=2)
    there = empty(lab.folder / "b.qcow2")
    source, target, uri = lab.pair(drive(image, format="qcow2"), drive(there, format="qcow2"))
    source.quietly("savevm now")
    for name in ("b0", "new"):
        source.qmp("block-dirty-bitmap-" + ("clear" if name == "b0" else "add"), node="d0", name=name)
    warning = "warning: drive 'd0': 1 internal snapshot and 3 dirty bitmaps are not copied" + OFF
    assert source.command(f"migrate -d blk {uri}") == warning
    source.wait_migration("completed")
    target.wait_status("running")


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path / "tmux", 120, XDG_STATE_HOME=str(tmp_path))
    yield terminal
    terminal.close()


@pytest.mark.parametrize("detach", ["", "-d "])
def test_a_terminal_says_it_once_at_each_end(lab: Lab, image: Path, terminal: Terminal, detach: str) -> None:
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = lab.start("target", *drive(blank(lab.folder / "b", SIZE)), "-incoming", uri)
    command = shlex.join([sys.executable, "-m", "qmon", *drive(image, format="qcow2")])
    terminal.type(f"clear; {command}\r")
    terminal.wait_for(r"^\(qemu\) $")
    terminal.type(f"migrate_set_parameter max-bandwidth 1M\rmigrate {detach}blk {uri}\r")
    terminal.wait_for(rf"(?m)^{STAYED}$")
    screen = terminal.screen()
    assert screen.count(f"warning: {STAY.removesuffix(OFF)}") == 1
    assert screen.count("not copied") == 2, screen
    eventually(lambda: target.status() == "running", "it has arrived")

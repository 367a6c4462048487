"""Files are called in lists as QEMU calls them: by the names they were opened by, for as long as they are."""

from __future__ import annotations

import difflib
from pathlib import Path

import pytest

from tests.support.images import drive
from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qcow2_images import run
from tests.support.two_monitors import TwoMonitors

OVERLAYS = """\
drive_add 0 if=none,id=a,file=a.qcow2
drive_add 0 if=none,id=b,file=././sub//../b.qcow2
snapshot_blkdev a ./x.qcow2
info block -v a
snapshot_blkdev a file:y.qcow2
info block -v a
snapshot_blkdev a file:./z.qcow2
info block -v a
info block
snapshot_blkdev_internal a s
info block a
snapshot_delete_blkdev_internal a s
commit a
snapshot_blkdev a q.qcow2
info block -v a
commit a
info block -n
snapshot_blkdev b .//sub/../c.qcow2
info block -v b
snapshot_blkdev -n d0 over.qcow2
info block -v d0
stop
cont
info block -n
"""

_CHAINS = {
    "one.qcow2": "./a.qcow2",
    "two.qcow2": "sub/e.qcow2",
    "sub/three.qcow2": "e.qcow2",
    "sub/four.qcow2": "../a.qcow2",
    "five.qcow2": "{folder}/a.qcow2",
    "six.qcow2": "file:sub/e.qcow2",
    "seven.qcow2": "file:{folder}/a.qcow2",
    "eight.qcow2": "file:./a.qcow2",
}


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-system-x86_64", "qemu-img")


def make(folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("a.qcow2", "b.qcow2", "sub/e.qcow2"):
        run("create", "-q", "-f", "qcow2", folder / name, "1M")
    run("create", "-q", "-f", "qcow2", "-u", "-b", "d0.img", "-F", "raw", folder / "over.qcow2", "16M")
    for name, backing in _CHAINS.items():
        backing = backing.format(folder=folder)
        run("create", "-q", "-f", "qcow2", "-u", "-b", backing, "-F", "qcow2", folder / name, "1M")


def unlike(both: TwoMonitors, lines: list[str]) -> str:
    """What qmon answers otherwise, as changes to what QEMU does."""
    parts = []
    for line in lines:
        theirs, ours = both.lines(line)
        told = plain(theirs, both.theirs.folder), plain(ours, both.ours.folder)
        if told[0] != told[1]:
            parts += [f"(qemu) {line}", *difflib.unified_diff(*told, "QEMU", "qmon", lineterm="")]
    return "\n".join(parts)


def plain(answer: tuple[str, ...], folder: Path) -> list[str]:
    """Without what differs from one folder, and file system, to another."""
    return [line.replace(str(folder), "/X") for line in answer if not line.startswith("disk size: ")]


def test_what_has_come_on_top_leaves_the_names_below_as_they_were(tmp_path: Path) -> None:
    with TwoMonitors(tmp_path) as both:
        for each in (both.theirs, both.ours):
            make(each.folder)
        assert not (text := unlike(both, OVERLAYS.splitlines())), text


@pytest.mark.parametrize("before", ["", "./", ".//sub/../", "{folder}/"])
def test_a_backing_file_is_called_as_its_overlay_and_its_name_say(before: str, tmp_path: Path) -> None:
    with TwoMonitors(tmp_path) as both:
        for each in (both.theirs, both.ours):
            make(each.folder)
            for number, name in enumerate(_CHAINS):
                file = f"{before.format(folder=each.folder)}{name}"
                answer = each.command(f"drive_add 0 if=none,id=c{number},readonly=on,file={file}")
                assert answer == "OK", name
        lines = [f"info block -v c{number}" for number in range(len(_CHAINS))]
        assert not (text := unlike(both, [*lines, "info block", "info block -n"])), text


def test_a_file_that_was_moved_away_is_called_by_the_name_that_leads_to_it(lab: Lab) -> None:
    (lab.folder / "old").mkdir()
    run("create", "-q", "-f", "qcow2", lab.folder / "old" / "base", "1M")
    run("create", "-q", "-f", "qcow2", "-b", "old/base", "-F", "qcow2", lab.folder / "d0")
    qmon = lab.start("one", *drive(lab.folder / "d0", format="qcow2"))
    assert f"Backing file:     {lab.folder}/old/base " in qmon.command("info block d0")
    (lab.folder / "old").rename(lab.folder / "new")
    (lab.folder / "old").write_bytes(b"no folder any more")
    with (lab.folder / "d0").open("r+b") as file:  # qemu-img rebase can't lock it
        header = file.read(4096)
        file.seek(header.index(b"old/base"))
        file.write(b"new/base")
    qmon.quietly("snapshot_blkdev_internal d0 s")
    assert f"Backing file:     {lab.folder}/new/base " in qmon.command("info block d0")

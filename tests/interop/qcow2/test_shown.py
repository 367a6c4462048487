"""How the monitor shows qcow2 images and their chains: as QEMU does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from qmon.block.image import open_image
from tests.support.locks_probe import locked_bytes
from tests.support.peer import QEMU_7, QMON_HERE, Answer, Peer, options_of
from tests.support.peers import require
from tests.support.qcow2_images import Recipe, run, run_io
from tests.support.two_monitors import TwoMonitors

LINES = [
    "info block",
    "info block -v d1",
    "info block -v d2",
    "info block -v d3",
    "info block -v d4",
    "info block -n",
    "info snapshots",
]


IO = {
    "one/disk.qcow2": ["map", "alloc 0 1M"],
    "top.qcow2": ["map"],
    "three/disk.qcow2": ["map", "alloc 512 70000"],
}
"""What qemu-io is asked of images."""


def images(folder: Path) -> list[str]:
    """Options for the drives d1 to d4."""
    for name in ("one", "two", "three", "four"):
        (folder / name).mkdir(parents=True)
    one, _ = Recipe(65536, 1 << 20, backing="raw", backing_size=1 << 20).make(folder / "one")
    run_io(one, "write 64k 130k", "write -z 512k 128k")
    two, _ = Recipe(4096, 1 << 20, compat="0.10", content="data").make(folder / "two")
    run("snapshot", "-c", "both", one)
    for name in ("both", "only here", "für später"):
        run("snapshot", "-c", name, two)
    middle, _ = Recipe(512, 1 << 20, backing="compressed", backing_size=300 << 10, content="data").make(
        folder / "three"
    )
    top = folder / "top.qcow2"
    run(
        "create", "-q", "-f", "qcow2", "-o", "lazy_refcounts=on", "-b", "three/disk.qcow2", "-F", "qcow2", top
    )
    four, _ = Recipe(65536, 1 << 20, refcount_bits=1).make(folder / "four")
    keys = [f"id=d1,file={one}", f"id=d2,file={two}", f"id=d3,file={top}", f"id=d4,file={four},readonly=on"]
    assert middle.parent.name == "three"
    store(folder)
    return options_of(*keys)


def store(folder: Path) -> None:
    """Have the files on the disk, so that they take the room that they take from now on."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())


def answers(program: Sequence[str], folder: Path, drives: Sequence[str]) -> dict[str, Answer]:
    with Peer(program, folder, options=drives) as peer:
        return {line: peer.lines(line) for line in LINES}


def test_images_and_chains_are_shown_as_by_qemu(tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img", "qemu-io")
    drives = images(tmp_path / "images")
    theirs = answers(QEMU_7, tmp_path / "qemu", drives)
    ours = answers(QMON_HERE, tmp_path / "qmon", drives)
    assert ours == theirs


@pytest.mark.parametrize("raw", ["on", "off"])
def test_an_external_data_file_is_shown_as_by_qemu(raw: str, tmp_path: Path) -> None:
    require("qemu-system-x86_64", "qemu-img")
    with TwoMonitors(tmp_path) as both:
        said = []
        for each in (both.theirs, both.ours):
            options = f"data_file={each.folder / 'outside'},data_file_raw={raw}"
            run("create", "-q", "-f", "qcow2", "-o", options, each.folder / "d.qcow2", "1M")
            assert each.command("drive_add 0 if=none,id=d,file=d.qcow2") == "OK"
            text = each.command("info block -v d").replace(str(each.folder), "FOLDER")
            said.append([line for line in text.split("\n") if not line.startswith("disk size: ")])
        assert said[1] == said[0]


def test_qemu_io_finds_the_same_allocated(tmp_path: Path) -> None:
    require("qemu-img", "qemu-io")
    images(tmp_path)
    drives = [f"id=d{number},readonly=on,file={tmp_path / name}" for number, name in enumerate(IO, 5)]
    with Peer(QMON_HERE, tmp_path / "qmon", options=options_of(*drives)) as peer:
        for number, (name, lines) in enumerate(IO.items(), 5):
            for line in lines:
                theirs = subprocess.run(
                    ["qemu-io", "-r", "-c", line, tmp_path / name], capture_output=True, text=True, check=True
                ).stdout
                assert peer.lines(f'qemu-io d{number} "{line}"') == tuple(theirs.splitlines())


def test_images_are_locked_as_by_a_guest_of_qemu(tmp_path: Path) -> None:
    require("qemu-img", "qemu-io")
    image, _ = Recipe(65536, 1 << 20, backing="raw", backing_size=1 << 20).make(tmp_path)
    base = tmp_path / "base.img"
    for read_only, locked in [(False, {100, 101, 103, 201, 203}), (True, {100, 201, 203})]:
        node = open_image(str(image), "qcow2", read_only=read_only)
        assert (locked_bytes(image), locked_bytes(base)) == (locked, {100, 201, 203})
        node.close()
        assert (locked_bytes(image), locked_bytes(base)) == (set(), set())

"""Snapshots, overlays and commits: the same lines to QEMU and to qmon, and the same images afterwards."""

from __future__ import annotations

import json
import random
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.guest import Guest
from tests.support.images import MIB, drive, filled, noise
from tests.support.locks_probe import locked_bytes
from tests.support.peer import MORE_NOISE, QEMU_7, QMON_HERE, Peer, options_of
from tests.support.peers import require
from tests.support.processes import Lab, Qmon
from tests.support.qcow2_images import check, content, run, run_io
from tests.support.two_monitors import TwoMonitors, differing, told

SIZE = 16 * MIB

DRIVES = {
    "a": "a.qcow2",
    "b": "b.qcow2",
    "c": "c2.qcow2",
    "v": "v2.qcow2",
    "r": "plain.img,format=raw,readonly=on",
}

BEFORE_SAVEVM = """\
snapshot_blkdev_internal a one
snapshot_blkdev_internal a one
snapshot_blkdev_internal a ""
snapshot_blkdev_internal a 1
snapshot_blkdev_internal r one
snapshot_blkdev_internal nowhere one
info snapshots
info block -v a
snapshot_delete_blkdev_internal a nope
snapshot_delete_blkdev_internal a one 5
snapshot_delete_blkdev_internal a one 1
snapshot_delete_blkdev_internal r one 1
snapshot_blkdev_internal a two
qemu-io a "write -P 4 0 3M"
savevm
info snapshots
"""

OVERLAYS = """\
commit a
commit b
commit c
info block -v c
qemu-io c "write -P 7 2M 100k"
commit all
commit v
info block -v v
commit nowhere
commit d0
commit ro
snapshot_blkdev a
snapshot_blkdev a over1.qcow2
info block -v a
qemu-io a "write -P 8 3M 200k"
snapshot_blkdev a over1.qcow2
snapshot_blkdev a over2.qcow2 raw
snapshot_blkdev a over2.raw nonsense
snapshot_blkdev -n a over2.raw
snapshot_blkdev -n a over1.qcow2 nonsense
snapshot_blkdev -n a ../plain.img
snapshot_blkdev a /absent/x.qcow2
commit a
snapshot_blkdev r over3.qcow2
info block r
snapshot_blkdev d0 over4.qcow2 qcow2
info block d0
qemu-io d0 "write -P 5 0 1k"
snapshot_blkdev d0 over5.qcow2 qcow2
qemu-io d0 "write -P 6 512 1k"
info block -n
commit d0
snapshot_blkdev_internal v s
block_resize v 40M
snapshot_delete_blkdev_internal v s
block_resize v 40M
snapshot_blkdev_internal c s
block_resize c 10M
block_resize c 5M
info block -v c
drive_add 0 if=none,id=e
snapshot_blkdev_internal e z
snapshot_delete_blkdev_internal e z
snapshot_blkdev e z
commit e
"""

SAVED = """\
drive_del d0
savevm tag
savevm two
qemu-io a "write -P 9 1M 3M"
qemu-io b "write -P 9 1M 3M"
savevm two
qemu-io a "write -P 10 0 1M"
qemu-io b "write -P 10 0 1M"
block_resize b 20M
loadvm two
savevm three
loadvm nope
delvm nope
delvm three
savevm four
info block -v b
info snapshots
"""
"""QEMU goes back only to what has a machine's state, which its own snapshots have."""

_NOISE = (
    *MORE_NOISE,
    (re.compile(r"vm-\d{14}"), "vm-DATE"),
    (re.compile(r" +\d+ B \d{4}-\d\d-\d\d \d\d:\d\d:\d\d \d\d:\d\d:\d\d\.\d{3}"), " SIZE TIME"),
)


@pytest.fixture(autouse=True)
def qemu() -> None:
    require("qemu-system-x86_64", "qemu-img", "qemu-io")


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder with the images of the drives."""
    folder = tmp_path / "images"
    folder.mkdir()
    for name in ("base.img", "base2.img"):
        (folder / name).write_bytes(b"B" * MIB + bytes(15 * MIB))
    (folder / "plain.img").write_bytes(bytes(SIZE))

    def make(name: str, *lines: str, size: str = "", **options: str) -> None:
        words = [word for key, value in options.items() for word in (f"-{key}", value)]
        run("create", "-q", "-f", "qcow2", *words, folder / name, *([size] if size else []))
        run_io(folder / name, *lines)

    make("a.qcow2", "write -P 1 0 1M", size="16M")
    make("b.qcow2", "write -P 2 64k 128k", "write -z 512k 64k", b="base.img", F="raw")
    make("v2.qcow2", "write -P 3 20M 128k", size="32M", b="base2.img", F="raw", o="compat=0.10")
    make("c0.qcow2", "write -P 8 1M 1M", size="4M")
    make("c1.qcow2", "write -P 9 1100k 90k", "write -P 9 5000k 90k", size="6M", b="c0.qcow2", F="qcow2")
    lines = ["write -P 10 1120k 90k", "write -z 1500k 100k", "write -P 11 5100k 90k"]
    make("c2.qcow2", *lines, b="c1.qcow2", F="qcow2")
    return folder


def asked(name: str, images: Path, folder: Path, lines: list[str]) -> dict[str, tuple[str, ...]]:
    """What a program answers to lines, on a copy of the images."""
    shutil.copytree(images, folder / name)
    drives = options_of(*(f"id={id},file=../{file}" for id, file in DRIVES.items()))
    program = QEMU_7 if name == "qemu" else QMON_HERE
    with Peer(program, folder / name / "p", noise=_NOISE, options=drives) as peer:
        return {f"{number} {line}": peer.lines(line) for number, line in enumerate(lines)}


def snapshots_of(image: Path) -> list[tuple[str, str]]:
    info = json.loads(run("info", "--output=json", image))
    return [(each["id"], each["name"]) for each in info.get("snapshots", [])]


@pytest.mark.parametrize("lines", [BEFORE_SAVEVM, OVERLAYS, SAVED], ids=["internal", "overlays", "saved"])
def test_the_same_lines_give_the_same_images_as_with_qemu(lines: str, images: Path, tmp_path: Path) -> None:
    theirs = asked("qemu", images, tmp_path, lines.splitlines())
    ours = asked("qmon", images, tmp_path, lines.splitlines())
    assert ours == theirs
    found = sorted((tmp_path / "qmon").rglob("*.qcow2"))
    names = [image.relative_to(tmp_path / "qmon") for image in found]
    assert names == sorted(
        each.relative_to(tmp_path / "qemu") for each in (tmp_path / "qemu").rglob("*.qcow2")
    )
    for name in names:
        mine, other = tmp_path / "qmon" / name, tmp_path / "qemu" / name
        check(mine)
        run("compare", "-q", mine, other)
        named = [(id, re.sub(r"\d{14}", "DATE", tag)) for id, tag in snapshots_of(mine)]
        assert named == [(id, re.sub(r"\d{14}", "DATE", tag)) for id, tag in snapshots_of(other)]
        for id, tag in snapshots_of(mine):
            if not tag.startswith("vm-"):
                assert content(mine, tag) == content(other, tag), (name, id, tag)


class Writer:
    """A guest that writes without a pause, and knows what it has written."""

    def __init__(self, guest: Guest, held: bytes) -> None:
        self.held = bytearray(held)
        self.count = 0
        self._guest = guest
        self._stop = threading.Event()
        self.failure: Exception | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        chance = random.Random(1)
        try:
            while not self._stop.is_set():
                offset, length = chance.randrange(SIZE - 9000), chance.randrange(1, 9000)
                data = chance.randbytes(length)
                self._guest.write(offset, data)
                self.held[offset : offset + length] = data
                self.count += 1
        except OSError as error:
            self.failure = error

    def goes_on(self) -> None:
        """Wait until it has written some more."""
        was = self.count
        while self.count < was + 20 and self.failure is None:
            self._thread.join(0.01)
        assert self.failure is None

    def end(self) -> None:
        self._stop.set()
        self._thread.join()

    def stop(self) -> bytes:
        """End it; returns what the disk should hold."""
        self.end()
        assert self.failure is None
        return bytes(self.held)


@pytest.fixture
def written(lab: Lab) -> Iterator[tuple[Qmon, Writer, Path]]:
    """A qmon with a raw drive to which a guest writes all the time."""
    image = filled(lab.folder / "d0.img", SIZE)
    qmon = lab.start("one", *drive(image))
    qmon.export("d0")
    with qmon.guest() as guest:
        writer = Writer(guest, noise(SIZE))
        try:
            yield qmon, writer, lab.folder
        finally:
            writer.end()


def test_a_drive_goes_on_in_overlays_and_is_committed_while_a_guest_writes(
    written: tuple[Qmon, Writer, Path],
) -> None:
    qmon, writer, folder = written
    qmon.quietly("block_set_io_throttle d0 1000000000 0 0 0 0 0")
    for number in range(2):
        one, two = folder / f"{number}one.qcow2", folder / f"{number}two.qcow2"
        for overlay in (one, two):
            qmon.quietly(f"snapshot_blkdev d0 {overlay}")
            writer.goes_on()
        assert "bps=1000000000" in qmon.command("info block d0")
        qmon.quietly("commit d0")
        writer.goes_on()
        qmon.quietly("savevm x", "savevm y", "delvm x", "delvm y", "commit d0")
        assert locked_bytes(two) == {100, 101, 103, 201, 203}
        assert locked_bytes(one) == locked_bytes(folder / "d0.img") == {100, 201, 203}
    held = writer.stop()
    with qmon.guest() as guest:
        assert b"".join(guest.read(offset, MIB) for offset in range(0, SIZE, MIB)) == held
    qmon.quietly("drive_del d0")
    check(two)
    assert content(two) == held


def test_a_snapshot_holds_what_the_guest_had_written(written: tuple[Qmon, Writer, Path]) -> None:
    qmon, writer, folder = written
    image = folder / "over.qcow2"
    qmon.quietly(f"snapshot_blkdev d0 {image}")
    writer.goes_on()
    held = writer.stop()
    qmon.quietly("savevm before")
    with qmon.guest() as guest:
        guest.write(0, b"later" * 1000)
        guest.write(5 * MIB, b"later" * 1000)
        qmon.quietly("loadvm before")
        assert b"".join(guest.read(offset, MIB) for offset in range(0, SIZE, MIB)) == held
        qmon.quietly("snapshot_blkdev_internal d0 again", "delvm before")
    qmon.quietly("drive_del d0")
    check(image)
    assert content(image) == content(image, "again") == held


def test_nothing_is_overwritten_by_an_overlay(lab: Lab) -> None:
    image = filled(lab.folder / "d0.img", MIB)
    other = filled(lab.folder / "other.img", MIB, 2)
    run("create", "-q", "-f", "qcow2", "-b", "other.img", "-F", "raw", lab.folder / "wrong.qcow2")
    run("create", "-q", "-f", "qcow2", "-b", "d0.img", "-F", "raw", lab.folder / "large.qcow2", "2M")
    run("create", "-q", "-f", "qcow2", lab.folder / "none.qcow2", "1M")
    run("create", "-q", "-f", "qcow2", "-b", "d0.img", "-F", "raw", lab.folder / "held.qcow2")
    run_io(lab.folder / "held.qcow2", "write -P 1 0 1k")
    qmon = lab.start("one", *drive(image))
    files = {path: path.read_bytes() for path in lab.folder.glob("*.*") if path.suffix in (".img", ".qcow2")}
    for line, why in {
        f"snapshot_blkdev d0 {other}": "it already exists and is not empty",
        f"snapshot_blkdev -n d0 {lab.folder}/wrong.qcow2": f"its backing file is not '{image}'",
        f"snapshot_blkdev -n d0 {lab.folder}/none.qcow2": f"its backing file is not '{image}'",
        f"snapshot_blkdev -n d0 {lab.folder}/large.qcow2": f"its size is {2 * MIB} bytes, not {MIB}",
        f"snapshot_blkdev -n d0 {lab.folder}/held.qcow2": "it is not empty",
        f"snapshot_blkdev -n d0 {image}": "it is the drive's image itself",
    }.items():
        answer = qmon.command(line)
        assert (answer.startswith("Error: Could not "), answer.endswith(why)) == (True, True), answer
    assert files == {path: path.read_bytes() for path in files}
    assert locked_bytes(image) == {100, 101, 201}
    qmon.quietly(f"snapshot_blkdev d0 {lab.folder}/fresh.qcow2")


def test_the_name_of_an_overlay_is_taken_as_qemu_takes_it(tmp_path: Path) -> None:
    """What stands before a colon is a protocol, and no part of a file's name."""
    require("qemu-system-x86_64")
    lines = [
        "snapshot_blkdev d0 json:{}",
        "snapshot_blkdev d0 nosuch:overlay",
        "snapshot_blkdev d0 :overlay",
        "snapshot_blkdev -n d0 nosuch:overlay",
        "snapshot_blkdev -n d0 file:nosuch",
        "snapshot_blkdev d0 file:one.qcow2",
        "info block d0",
        "snapshot_blkdev d0 ./two:2.qcow2",
    ]
    with TwoMonitors(tmp_path) as both:
        assert not (found := differing(both, lines)), told(found)
        made = {path.name for path in both.ours.folder.iterdir() if path.is_file()}
    assert made >= {"one.qcow2", "two:2.qcow2"}
    assert not {name for name in made if name.startswith(("json", "nosuch", "file", ":"))}


def test_nothing_of_it_is_done_to_a_drive_that_migrates(lab: Lab) -> None:
    run("create", "-q", "-f", "qcow2", lab.folder / "s.qcow2", "16M")
    run_io(lab.folder / "s.qcow2", "write -P 1 0 16M")
    run("create", "-q", "-f", "qcow2", lab.folder / "t.qcow2", "16M")
    source, _, uri = lab.pair(
        drive(lab.folder / "s.qcow2", format="qcow2"),
        drive(lab.folder / "t.qcow2", format="qcow2"),
        bandwidth="100k",
    )
    source.quietly("snapshot_blkdev_internal d0 s")
    assert source.command(f"migrate -d blk {uri}") == "warning: drive 'd0': 1 internal snapshot is not copied"
    lines = ["snapshot_blkdev_internal d0 t", "snapshot_delete_blkdev_internal d0 s", "savevm t", "loadvm s"]
    lines += ["delvm s", f"snapshot_blkdev d0 {lab.folder}/over.qcow2", "commit d0"]
    for line in lines:
        assert source.command(line).endswith("Node 'd0' is busy: block device is in use by migration"), line
    source.quietly("migrate_cancel")
    assert not (lab.folder / "over.qcow2").exists()


def test_an_overlay_elsewhere_finds_its_backing_file(lab: Lab) -> None:
    image = filled(lab.folder / "d0.img", MIB)
    (lab.folder / "sub").mkdir()
    qmon = lab.start("one", *drive(image))
    overlay = lab.folder / "sub" / "over.qcow2"
    qmon.quietly(f"snapshot_blkdev d0 {overlay}", "drive_del d0")
    assert content(overlay) == image.read_bytes()


def test_a_commit_is_refused_where_it_would_hurt_somebody(lab: Lab) -> None:
    base = filled(lab.folder / "base.img", MIB)
    for name in ("d0", "d1"):
        run("create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", lab.folder / f"{name}.qcow2")
        run_io(lab.folder / f"{name}.qcow2", "write -P 1 0 64k")
    both = [
        *drive(lab.folder / "d0.qcow2", format="qcow2"),
        *drive(lab.folder / "d1.qcow2", "d1", format="qcow2"),
    ]
    qmon = lab.start("one", *both)
    assert "Failed to get" in qmon.command("commit d0")
    assert locked_bytes(base) == {100, 201, 203}
    qmon.quietly("drive_del d1", "snapshot_blkdev_internal d0 s")
    assert "delete them first" in qmon.command("commit d0")
    assert base.read_bytes() == noise(MIB)
    qmon.quietly("snapshot_delete_blkdev_internal d0 s", "commit d0")
    assert base.read_bytes() == b"\1" * 65536 + noise(MIB)[65536:]


def test_a_failed_commit_loses_nothing(lab: Lab) -> None:
    """The image below can't grow to the overlay's size."""
    run("create", "-q", "-f", "qcow2", "-o", "cluster_size=512", lab.folder / "base.qcow2", "1M")
    run("create", "-q", "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", lab.folder / "d0.qcow2", "200G")
    run_io(lab.folder / "d0.qcow2", "write -P 1 0 64k", "write -P 2 150G 64k")
    qmon = lab.start("one", *drive(lab.folder / "d0.qcow2", format="qcow2"))
    assert "Failed to grow the L1 table" in qmon.command("commit d0")
    for line in ("read -P 1 0 64k", "read -P 2 150G 64k"):
        assert "failed" not in qmon.command(f'qemu-io d0 "{line}"')
    assert locked_bytes(lab.folder / "base.qcow2") == {100, 201, 203}
    qmon.quietly("drive_del d0")
    for name in ("base.qcow2", "d0.qcow2"):
        check(lab.folder / name)


def test_what_qmon_made_qemu_goes_on_with(lab: Lab) -> None:
    run("create", "-q", "-f", "qcow2", lab.folder / "d0.qcow2", "1M")
    qmon = lab.start("one", *drive(lab.folder / "d0.qcow2", format="qcow2"))
    qmon.quietly('qemu-io d0 "write -q -P 1 0 64k"', "savevm one", 'qemu-io d0 "write -q -P 2 0 64k"')
    qmon.quietly("savevm two", "drive_del d0")
    image = lab.folder / "d0.qcow2"
    run("snapshot", "-a", "one", image)
    assert content(image)[:65536] == b"\1" * 65536
    run("snapshot", "-d", "two", image)
    run("snapshot", "-c", "three", image)
    check(image)
    assert snapshots_of(image) == [("1", "one"), ("2", "three")]
    assert subprocess.run(["qemu-img", "snapshot", "-d", "one", image], check=False).returncode == 0
    check(image)

"""Read-only drives and media: the destination has what they hold, gets it, or refuses before data travel."""

from __future__ import annotations

import re
import resource
import socket
from pathlib import Path

import pytest

from qmon.migration.wire import answers
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import run, run_io
from tests.support.wire import DOUBT, Cut, Wire

SIZE = 2 * MIB
LARGE = 16 * MIB
"""Of which only samples are looked at."""


def with_cd(lab: Lab, here: Path, there: Path, *, writable_there: bool = False) -> tuple[Qmon, Qmon, str]:
    """A source with a disk and a read-only drive, and a destination for it."""
    disk, empty = filled(lab.folder / "disk.img", SIZE), blank(lab.folder / "arrived.img", SIZE)
    more = {} if writable_there else {"readonly": "on"}
    source, target, uri = lab.pair(
        [*drive(disk), *drive(here, "cd0", readonly="on")], [*drive(empty), *drive(there, "cd0", **more)]
    )
    source.export("d0")
    return source, target, uri


def refused(source: Qmon, target: Qmon, line: str) -> str:
    """Why a migration was refused that sent nothing; the source runs on."""
    source.quietly(line)
    why = source.wait_migration("failed")
    assert source.status() == "running"
    assert target.status() == "paused (inmigrate)"
    assert not any((target.folder / "arrived.img").read_bytes()), "data travelled"
    assert "partial" not in target.log()
    with source.guest() as guest:
        guest.write(0, noise(512))
    return why


@pytest.mark.parametrize("mode", ["blk", "blk inc"])
@pytest.mark.parametrize("stored", [False, True], ids=["a hole", "written zeros"])
@pytest.mark.parametrize("size", [SIZE, LARGE])
def test_what_holds_nothing_is_filled_and_read_only_afterwards(
    lab: Lab, mode: str, stored: bool, size: int
) -> None:
    here, there = filled(lab.folder / "a.iso", size), lab.folder / "b.iso"
    there.write_bytes(bytes(size)) if stored else blank(there, size)
    source, target, uri = with_cd(lab, here, there)
    migrated(source, target, f"migrate -d {mode} {uri}")
    assert same(here, there)
    assert same(lab.folder / "disk.img", lab.folder / "arrived.img")
    figures = source.command("info migrate")
    assert re.search(r"^disk 'cd0': transferred \d+, remaining 0, total", figures, re.MULTILINE)
    target.quietly(f"nbd_server_start unix:{target.nbd}", "nbd_server_add cd0")
    with target.guest("cd0") as guest:
        assert guest.read(size - 512, 512) == noise(size)[-512:]
    assert "(raw, read-only)" in target.command("info block cd0")
    lab.start("reader", *drive(there, readonly="on"))  # which a writer's locks would keep out


def test_one_block_anywhere_in_a_large_one_is_not_forgotten(lab: Lab) -> None:
    """Also where no sample would come upon it."""
    size = 2 << 30
    here, there = blank(lab.folder / "a.iso", size), blank(lab.folder / "b.iso", size)
    with here.open("r+b") as file:
        file.seek(size // 3)
        file.write(noise(512))
    source, target, uri = with_cd(lab, here, there)
    migrated(source, target, f"migrate -d blk {uri}")
    with there.open("rb") as file:
        file.seek(size // 3 // 512 * 512)
        assert noise(512)[:100] in file.read(1024)


@pytest.mark.parametrize("verify", ["sample", "full"])
@pytest.mark.parametrize("mode", ["blk", "blk inc"])
def test_what_holds_something_else_is_refused_and_left_as_it_is(lab: Lab, mode: str, verify: str) -> None:
    other = bytearray(noise(SIZE))
    other[MIB + 5] ^= 1
    here, there = filled(lab.folder / "a.iso", SIZE), lab.folder / "b.iso"
    there.write_bytes(other)
    source, target, uri = with_cd(lab, here, there)
    source.quietly(f"migrate_set_parameter x-qmon-verify-backing {verify}")
    why = refused(source, target, f"migrate -d {mode} {uri}")
    assert "read-only drive 'cd0' differs between the source and the destination" in why
    assert f"first in the 65536 bytes at {MIB}: copy the source's image there" in why
    target.wait_log(why[len("failed (") : -1])
    assert there.read_bytes() == other
    there.write_bytes(here.read_bytes())
    migrated(source, target, f"migrate -d {mode} {uri}")


def test_a_large_one_is_compared_by_samples_or_in_full(lab: Lab) -> None:
    here, there = filled(lab.folder / "a.iso", LARGE), filled(lab.folder / "b.iso", LARGE)
    with there.open("r+b") as file:
        file.seek(LARGE - 1)
        file.write(bytes([noise(LARGE)[-1] ^ 1]))  # its last block is always looked at
    source, target, uri = with_cd(lab, here, there)
    assert "differs between the source" in refused(source, target, f"migrate -d blk {uri}")
    there.write_bytes(here.read_bytes())
    with there.open("r+b") as file:
        file.seek(LARGE // 2 + 77)
        file.write(bytes([noise(LARGE)[LARGE // 2 + 77] ^ 1]))
    source.quietly("migrate_set_parameter x-qmon-verify-backing full")
    assert f"bytes at {LARGE // 2}:" in refused(source, target, f"migrate -d blk {uri}")


def test_what_is_not_to_be_compared_is_said_not_to_be(lab: Lab) -> None:
    here, there = filled(lab.folder / "a.iso", SIZE, 1), filled(lab.folder / "b.iso", SIZE, 2)
    source, target, uri = with_cd(lab, here, there)
    source.quietly("migrate_set_parameter x-qmon-verify-backing off")
    migrated(source, target, f"migrate -d blk {uri}")
    target.wait_log("drive 'cd0' is read-only: its contents are not compared with the source's")
    assert there.read_bytes() == noise(SIZE, 2)


def test_one_that_others_read_is_not_filled_but_may_be_the_same(lab: Lab) -> None:
    here, there = filled(lab.folder / "a.iso", SIZE), blank(lab.folder / "b.iso", SIZE)
    source, target, uri = with_cd(lab, here, there)
    reader = lab.start("reader", *drive(there, readonly="on"))
    why = refused(source, target, f"migrate -d blk {uri}")
    assert "read-only drive 'cd0' is empty at the destination, and its image can't be written there" in why
    assert "Failed to get" in why
    reader.close()
    there.write_bytes(here.read_bytes())
    lab.start("other-reader", *drive(there, readonly="on"))
    migrated(source, target, f"migrate -d blk {uri}")


def test_empty_ones_on_both_sides_that_nobody_may_write_are_the_same(lab: Lab) -> None:
    here, there = blank(lab.folder / "a.iso", LARGE), blank(lab.folder / "b.iso", LARGE)
    source, target, uri = with_cd(lab, here, there)
    lab.start("reader", *drive(there, readonly="on"))
    migrated(source, target, f"migrate -d blk {uri}")


def test_one_that_is_writable_at_the_destination_is_copied(lab: Lab) -> None:
    here, there = filled(lab.folder / "a.iso", SIZE, 1), filled(lab.folder / "b.iso", SIZE, 2)
    source, target, uri = with_cd(lab, here, there, writable_there=True)
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(here, there)
    assert target.status() == "running"


def test_a_copy_that_broke_off_is_made_again_and_by_no_other_process(lab: Lab) -> None:
    here, there = filled(lab.folder / "a.iso", SIZE), blank(lab.folder / "b.iso", SIZE)
    source, target, uri = with_cd(lab, here, there)
    unlimited = resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE)
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, (MIB, unlimited[1]))
    source.quietly(f"migrate -d blk {uri}")
    assert "File too large" in source.wait_migration("failed")
    target.wait_log("the images here are partial")
    with there.open("r+b") as file:
        file.write(noise(MIB))  # whatever came of it
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, unlimited)
    source.quietly(f"migrate -d blk {uri}")
    assert "differs between the source" in source.wait_migration("failed"), "another has written to it since"
    target.close()
    blank(there, SIZE)
    target = lab.start(
        "again",
        *drive(lab.folder / "arrived.img"),
        *drive(there, "cd0", readonly="on"),
        "-incoming",
        uri,
    )
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, (MIB, unlimited[1]))
    source.quietly(f"migrate -d blk {uri}")
    assert "File too large" in source.wait_migration("failed")
    target.wait_log("the images here are partial")
    resource.prlimit(target.process.pid, resource.RLIMIT_FSIZE, unlimited)
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(here, there)


@pytest.mark.parametrize("asked", [(0,), (2,), (0xFFFF,), (1, 1)])
def test_a_destination_that_asks_for_what_it_was_not_offered_is_left(
    lab: Lab, asked: tuple[int, ...]
) -> None:
    here = [
        *drive(filled(lab.folder / "a", SIZE)),
        *drive(filled(lab.folder / "b", SIZE), "cd0", readonly="on"),
    ]
    source = lab.start("source", *here)
    path = lab.folder / "migrate.sock"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        source.quietly(f"migrate -d blk unix:{path}")
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(1)  # it has been asked, and what comes is no answer out of turn
            connection.sendall(b"".join(answers.needed(index) for index in asked))
            why = source.wait_migration("failed")
    assert f"the destination asked for drive {asked[-1]}, which was not offered for a copy" in why
    assert source.status() == "running"


class TestQcow2:
    """What the guest sees is what counts."""

    @pytest.fixture(autouse=True)
    def qemu(self) -> None:
        require("qemu-img", "qemu-io")

    @pytest.fixture
    def chain(self, lab: Lab) -> Path:
        base, top = filled(lab.folder / "base.img", SIZE), lab.folder / "top.qcow2"
        run("create", "-q", "-f", "qcow2", "-b", base.name, "-F", "raw", top)
        run_io(top, "write -P 5 1M 64k", "write -z 64k 64k")
        return top

    def pair(self, lab: Lab, here: Path, there: Path, format: str) -> tuple[Qmon, Qmon, str]:
        disk, empty = filled(lab.folder / "disk.img", SIZE), blank(lab.folder / "arrived.img", SIZE)
        source, target, uri = lab.pair(
            [*drive(disk), *drive(here, "cd0", readonly="on", format="qcow2")],
            [*drive(empty), *drive(there, "cd0", readonly="on", format=format)],
        )
        source.export("d0")
        return source, target, uri

    @pytest.mark.parametrize("mode", ["blk", "blk inc"])
    def test_a_chain_and_a_flat_image_of_the_same_content_are_the_same(
        self, lab: Lab, chain: Path, mode: str
    ) -> None:
        flat = lab.folder / "flat.img"
        run("convert", "-f", "qcow2", "-O", "raw", chain, flat)
        source, target, uri = self.pair(lab, chain, flat, "raw")
        before = flat.stat().st_mtime_ns
        migrated(source, target, f"migrate -d {mode} {uri}")
        assert flat.stat().st_mtime_ns == before

    @pytest.mark.parametrize("format", ["raw", "qcow2"])
    def test_a_chain_fills_an_empty_image(self, lab: Lab, chain: Path, format: str) -> None:
        there = lab.folder / "there"
        run("create", "-q", "-f", format, there, str(SIZE))
        source, target, uri = self.pair(lab, chain, there, format)
        migrated(source, target, f"migrate -d blk {uri}")
        run("compare", "-U", "-f", "qcow2", "-F", format, chain, there)
        if format == "qcow2":
            run("check", "-U", "-q", there)

    def test_an_overlay_on_something_else_holds_something(self, lab: Lab, chain: Path) -> None:
        there = lab.folder / "there.qcow2"
        run("create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", there)
        source, target, uri = self.pair(lab, chain, there, "qcow2")
        assert "bytes at 65536: copy" in refused(source, target, f"migrate -d blk inc {uri}")


class TestMedia:
    """Drives without a medium, on one side or on both."""

    def pair(self, lab: Lab) -> tuple[Qmon, Qmon, str]:
        return with_cd(lab, filled(lab.folder / "a.iso", SIZE), filled(lab.folder / "b.iso", SIZE))

    @pytest.mark.parametrize("mode", ["blk", "blk inc"])
    def test_none_on_both_sides_is_nothing_to_speak_of(self, lab: Lab, mode: str) -> None:
        source, target, uri = self.pair(lab)
        for side in (source, target):
            side.quietly("eject cd0")
        migrated(source, target, f"migrate -d {mode} {uri}")
        assert "cd0: [not inserted]" in target.command("info block")

    @pytest.mark.parametrize("mode", ["", "blk", "blk inc"])
    def test_one_on_one_side_is_told_how_to_put_right(self, lab: Lab, mode: str) -> None:
        source, target, uri = self.pair(lab)
        target.quietly("eject cd0")
        why = refused(source, target, f"migrate -d {mode} {uri}")
        assert "drive 'cd0' has a medium at the source and none at the destination" in why
        assert "'change cd0 FILE'" in why
        source.quietly("eject cd0")
        target.quietly(f"change cd0 {lab.folder / 'b.iso'} raw")
        why = refused(source, target, f"migrate -d {mode} {uri}")
        assert re.search(
            "drive 'cd0' has no medium at the source and one at the destination.*'eject cd0'", why
        )
        target.quietly("eject cd0")
        if mode:
            migrated(source, target, f"migrate -d {mode} {uri}")

    def test_what_is_put_in_is_compared(self, lab: Lab) -> None:
        source, target, uri = self.pair(lab)
        filled(lab.folder / "c.iso", SIZE, 3)
        target.quietly(f"change cd0 {lab.folder / 'c.iso'} raw")
        assert "differs between the source" in refused(source, target, f"migrate -d blk {uri}")


def test_the_read_only_drives_of_a_prepared_destination_that_was_killed_are_there(lab: Lab) -> None:
    """One that it had, and one that was filled."""
    has, gets = filled(lab.folder / "has.img", SIZE, 3), blank(lab.folder / "gets.img", SIZE)
    here, empty = filled(lab.folder / "here.img", SIZE), blank(lab.folder / "arrived.img", SIZE)
    ours = [*drive(here), *drive(has, "cd0", readonly="on"), *drive(here, "cd1", readonly="on")]
    ours[-1] = ours[-1].replace("here.img", "a.iso")
    filled(lab.folder / "a.iso", SIZE, 4)
    theirs = [*drive(empty), *drive(has, "cd0", readonly="on"), *drive(gets, "cd1", readonly="on")]
    source, target, uri = lab.pair(ours, theirs)

    def cut() -> None:
        raise Cut

    there, wire = Path(uri.removeprefix("unix:")), lab.folder / "wire"
    with Wire(wire, there, on_go=cut).once():
        source.quietly(f"migrate -d blk unix:{wire}")
        source.wait_log(DOUBT)
    wire.unlink()
    target.kill()
    target = lab.start("target-again", *theirs, "-incoming", uri)
    with Wire(wire, there).once():
        source.wait_migration("completed")
        target.wait_status("running")
    target.quietly(f"nbd_server_start unix:{target.nbd}")
    for name, seed in (("cd0", 3), ("cd1", 4)):
        target.quietly(f"nbd_server_add {name}")
        with target.guest(name) as guest:
            assert guest.read(0, SIZE) == noise(SIZE, seed)

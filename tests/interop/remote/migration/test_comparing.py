"""What is compared while a guest moves: a difference is said, and the guest runs on where it was."""

from __future__ import annotations

import os
import subprocess
from functools import partial
from pathlib import Path
from shutil import copyfile

import pytest

from tests.support.images import MIB
from tests.support.peers import require
from tests.support.ports import free_port
from tests.support.vms.consoles import Consoles, Script
from tests.support.vms.disks import QCOW2, Filling
from tests.support.vms.judgement import counting_machines, judge
from tests.support.vms.leftovers import leftovers
from tests.support.vms.line import Line
from tests.support.vms.machine import Machine, Style, Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import PATIENCE, eventually

VERIFY = "migrate_set_parameter x-qmon-verify-copy"
BOTH = pytest.mark.parametrize("version", Version, ids=lambda version: f"qemu{version.value}")
TIME_TO_COMPARE = "migrate_set_parameter downtime-limit 20000"
"""With the default limit a busy machine compares a part of the samples."""


class Uneven(Setup):
    """Two disks: the first one is copied long before the second one."""

    __slots__ = ()

    def filling_of(self, disk: int) -> Filling:
        return Filling(64 * MIB, 40 * MIB if disk else 4 * MIB, seed=disk)


def move(pair: Pair, mode: str, *, damage: bool = False) -> tuple[int, str]:
    """Move the guest by two consoles; return the exit status of the source's, and what it printed."""
    with Consoles(pair) as consoles:
        consoles.wait_listening()
        return move_by(consoles, consoles.source, mode, damage=damage)


def move_by(consoles: Consoles, console: Script, mode: str, *, damage: bool = False) -> tuple[int, str]:
    """The same by a console at the source; the destination's listens."""
    pair = consoles.pair
    before = limits(pair.source)
    console.type(TIME_TO_COMPARE, f"{VERIFY} {mode}")
    if damage:
        console.type("migrate_set_parameter max-bandwidth 4M")
        console.type(consoles.line.replace("migrate", "migrate -d"))
        damage_copied_data(pair)
        console.type("migrate_set_parameter max-bandwidth 128M", "wait migrate")
    else:
        console.type(consoles.line)
    status = console.wait(3 * PATIENCE)
    pair.source.look.run("migrate-set-parameters", before)
    return status, console.printed()


def limits(machine: Machine) -> dict[str, int]:
    """The limits of a QEMU that a test's lines change."""
    parameters = machine.look.run("query-migrate-parameters")
    return {name: parameters[name] for name in ("max-bandwidth", "downtime-limit")}


def damage_copied_data(pair: Pair) -> None:
    """Flip a bit in each block of the first disk's data, once that is in the destination's image."""
    filling = pair.setup.filling_of(0)
    start = (filling.size - filling.noise) // 2
    image = os.open(pair.destination.images[0].path, os.O_RDWR)
    try:
        for at in range(start, start + filling.noise, MIB):
            wanted = filling.piece(at)
            eventually(partial(is_there, image, at, wanted), "the data are copied")
        for at in range(start, start + filling.noise, 1 << 16):
            byte = os.pread(image, 1, at + 77)[0]
            os.pwrite(image, bytes([byte ^ 1]), at + 77)
    finally:
        os.close(image)


def is_there(image: int, at: int, wanted: bytes) -> bool:
    return os.pread(image, len(wanted), at) == wanted


@pytest.mark.sample(3)
@BOTH
@pytest.mark.parametrize(
    ("mode", "said"),
    [
        ("off", "the copies of the disks ended without an error"),
        ("sample", "samples of the disks, 2 MiB, compared while the guest stood still"),
        ("full", "all 32 MiB of the disks compared"),
    ],
)
def test_the_end_says_how_much_was_compared(tmp_path: Path, version: Version, mode: str, said: str) -> None:
    with Pair(tmp_path, Setup(version, version)) as pair:
        status, printed = move(pair, mode)
        assert (status, said in printed) == (0, True), printed
        assert judge(pair, pair.destination) == []


def test_a_disk_of_an_iothread_is_not_read_while_an_older_qemu_copies_it(tmp_path: Path) -> None:
    with Pair(tmp_path, Setup(Version.SEVEN, Version.SEVEN, style=Style.IOTHREAD)) as pair:
        look = pair.source.look
        before = limits(pair.source)

        def is_read_while_it_is_copied() -> bool:
            copied = look.run("query-block-jobs")
            exports = look.run("query-block-exports")
            return bool(copied and exports and look.run("query-block-jobs"))

        with Consoles(pair) as consoles:
            consoles.wait_listening()
            consoles.source.type(TIME_TO_COMPARE, "migrate_set_parameter max-bandwidth 20m", consoles.line)
            consoles.source.end_lines()
            seen = []
            while consoles.source.is_alive():
                seen.append(is_read_while_it_is_copied())
            assert consoles.source.wait() == 0, consoles.source.printed()
            assert len(seen) > 10
            assert not any(seen)
            assert (
                "samples of the disks, 2 MiB, compared while the guest stood still"
                in consoles.source.printed()
            )
        look.run("migrate-set-parameters", before)
        assert judge(pair, pair.destination) == []


def test_all_of_a_disk_of_an_iothread_is_not_read_from_an_older_qemu(tmp_path: Path) -> None:
    with Pair(tmp_path, Setup(Version.SEVEN, Version.SEVEN, style=Style.IOTHREAD)) as pair:
        status, printed = move(pair, "full")
        assert status == 1, printed
        assert "disks of this QEMU are in an iothread: before 9.0 its NBD server may fail" in printed
        assert "'migrate_set_parameter x-qmon-verify-copy sample'" in printed
        assert judge(pair, pair.source) == []


@pytest.mark.sample(2)
@BOTH
@pytest.mark.parametrize("mode", ["sample", "full"])
def test_a_copy_that_was_changed_by_others_is_refused(tmp_path: Path, version: Version, mode: str) -> None:
    with Pair(tmp_path, Uneven(version, version, disks=2)) as pair:
        status, printed = move(pair, mode, damage=True)
        assert status == 1, printed
        assert "the copy of drive 'd0' differs from it in the 65536 bytes at " in printed
        assert "another program has written to the destination's image, or storage is broken" in printed
        # The destination's QEMU is used up: it has read memory.
        assert counting_machines(pair) == [pair.source]
        assert leftovers(pair.source, pair.before["source"], PATIENCE) == []


@pytest.mark.sample(1)
@BOTH
def test_a_flipped_bit_in_the_backing_image_is_refused(tmp_path: Path, version: Version) -> None:
    setup = Setup(version, version, format=QCOW2, inc=True)
    with Pair(tmp_path, setup) as pair, Consoles(pair) as consoles:
        consoles.wait_listening()
        image = pair.destination.images[0]
        assert image.backing is not None
        with image.backing.open("r+b") as file:
            file.seek(20 * MIB + 5)
            file.write(bytes([setup.filling_of(0).piece(20 * MIB)[5] ^ 16]))
        status, printed = move_by(consoles, consoles.source, "full")
        assert status == 1, printed
        assert "the backing image of drive 'd0' differs between the source and the destination" in printed
        assert f"'qemu-img create -f qcow2 -b {image.backing} -F raw {image.path} " in printed
        assert counting_machines(pair) == [pair.source]
        # Nothing is used up: once the image is right, the guest moves.
        copyfile(pair.source.images[0].backing or "", image.backing)
        status, printed = move_by(consoles, consoles.start_source(), "full")
        assert status == 0, printed
        assert counting_machines(pair) == [pair.destination]


@pytest.mark.sample(1)
@BOTH
def test_an_overlay_with_data_of_its_own_is_refused(tmp_path: Path, version: Version) -> None:
    with Pair(tmp_path, Setup(version, version, format=QCOW2, inc=True)) as pair:
        write_at_destination(pair, "write -P 7 3M 4k")
        status, printed = move(pair, "sample")
        assert status == 1, printed
        assert "the overlay of drive 'd0' is not empty at the destination (data at byte 3145728)" in printed
        image = pair.destination.images[0]
        assert f"'qemu-img create -f qcow2 -b {image.backing} -F raw {image.path} " in printed
        assert judge(pair, pair.source) == []


def write_at_destination(pair: Pair, command: str) -> None:
    """Write to the destination's disk by qemu-io, before anybody moves the guest."""
    require("qemu-io")
    look, socket = pair.destination.look, pair.folder / "nbd"
    node = look.run("query-block")[0]["inserted"]["node-name"]
    look.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(socket)}})
    look.run("block-export-add", type="nbd", id="x", node_name=node, name="x", writable=True)
    uri = f"nbd+unix:///x?socket={socket}"
    subprocess.run(["qemu-io", "-f", "raw", "-c", command, uri], check=True, capture_output=True)
    look.run("nbd-server-stop")


@pytest.mark.sample(1)
@BOTH
def test_an_incremental_copy_says_that_backing_images_were_compared(tmp_path: Path, version: Version) -> None:
    with Pair(tmp_path, Setup(version, version, format=QCOW2, inc=True, disks=2)) as pair:
        status, printed = move(pair, "full")
        assert status == 0, printed
        assert "; all 64 MiB of the backing images compared" in printed
        assert judge(pair, pair.destination) == []


@pytest.mark.sample(1)
@BOTH
def test_a_read_only_drive_that_holds_something_else_is_refused(tmp_path: Path, version: Version) -> None:
    with Pair(tmp_path, Setup(version, version, cdroms=True)) as pair, Consoles(pair) as consoles:
        consoles.wait_listening()
        medium = pair.folder / "destination.iso"
        content = medium.read_bytes()
        medium.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        status, printed = move_by(consoles, consoles.source, "sample")
        assert status == 1, printed
        assert "is read-only, so it is not copied, and it holds something else at the destination" in printed
        assert f"start the destination with a copy of {pair.folder / 'source.iso'}" in printed
        assert counting_machines(pair) == [pair.source]
        medium.write_bytes(content)
        status, printed = move_by(consoles, consoles.start_source(), "sample")
        assert status == 0, printed
        assert "; 16 samples of the read-only drives compared" in printed
        assert counting_machines(pair) == [pair.destination]


@pytest.mark.sample(2)
@BOTH
@pytest.mark.parametrize("dies", ["source", "destination"])
def test_a_console_that_dies_while_backing_images_are_compared_is_cleared_up_after(
    tmp_path: Path, version: Version, dies: str
) -> None:
    setup = Setup(version, version, format=QCOW2, inc=True, filling=Filling(256 * MIB, 64 * MIB))
    with Pair(tmp_path, setup) as pair:
        told = free_port()
        # each question and its answer take 0.4 s, so that the console is killed before the last one
        with Consoles(pair, told_port=told) as consoles, Line(consoles.port, told, delay=0.2):
            consoles.wait_listening()
            consoles.source.type(f"{VERIFY} full", consoles.line)
            look = getattr(pair, dies).look
            eventually(lambda: look.run("query-block-exports"), "an image is exported to be compared")
            getattr(consoles, dies).kill()
            consoles.source.wait(3 * PATIENCE)
            assert counting_machines(pair) == [pair.source]
        status, printed = move(pair, "full")
        assert status == 0, printed
        assert judge(pair, pair.destination) == []

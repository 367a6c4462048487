"""Guests write while their disk moves: whatever was acknowledged to them is on the destination's disk."""

from __future__ import annotations

import random
import subprocess
import threading
from pathlib import Path

from tests.support.guests import WritingGuest
from tests.support.images import MIB, noise
from tests.support.peers import require
from tests.support.processes import Lab, Qmon
from tests.support.waiting import PATIENCE, eventually

SIZE = 16 * MIB
ESHUTDOWN = 108


def under_way(source: Qmon) -> None:
    """Wait until blocks travel."""
    eventually(
        lambda: source.migration() == "active" and source.kbytes("transferred disk") > 0, "blocks travel"
    )


def test_a_guest_writes_through_the_switchover(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="512k")
    source.quietly("migrate_set_capability x-qmon-forward off")
    with WritingGuest([source.nbd, target.nbd], noise(SIZE)) as guest:
        guest.wait_for(20)
        source.quietly(f"migrate -d blk {uri}")
        under_way(source)
        guest.wait_for(20)
        source.quietly("migrate_set_parameter max-bandwidth 4G")
        source.wait_migration("completed")
        guest.wait_for(50)
    assert guest.error is None
    assert guest.moved_with[0] in (ESHUTDOWN, None)
    assert (lab.folder / "target.img").read_bytes() == guest.content


def test_several_guests_of_one_disk_all_move(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    source.quietly("migrate_set_parameter downtime-limit 1000")
    exports, part = [source.nbd, target.nbd], SIZE // 4
    guests = [
        WritingGuest(exports, noise(SIZE)[base : base + part], base) for base in range(0, 3 * part, part)
    ]
    with guests[0], guests[1], guests[2]:
        source.quietly(f"migrate -d blk {uri}")
        source.wait_migration("completed")
        for guest in guests:
            guest.wait_for(20)
    assert [guest.error for guest in guests] == [None] * 3
    expected = b"".join(bytes(guest.content) for guest in guests) + noise(SIZE)[3 * part :]
    assert (lab.folder / "target.img").read_bytes() == expected


def test_a_guest_waits_at_the_destination_until_its_disk_is_there(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(2 * MIB)
    read: list[bytes] = []

    def wait_and_read() -> None:
        with target.guest() as guest:
            read.append(guest.read(MIB, 512))

    waiting = threading.Thread(target=wait_and_read)
    waiting.start()
    eventually(lambda: "d0" in target.command("info block"), "the destination answers meanwhile")
    with source.guest() as guest:
        guest.write(MIB, noise(512, 3))
    assert not read
    source.quietly(f"migrate -d blk {uri}")
    waiting.join(PATIENCE)
    assert read == [noise(512, 3)]


def test_zeros_and_trims_during_the_copy_arrive_as_zeros(lab: Lab) -> None:
    require("qemu-io")
    source, _, uri = lab.disk_pair(SIZE, bandwidth="256k")
    source.quietly(f"migrate -d blk {uri}")
    under_way(source)
    qemu_io(source, "write -z -u 0 4M", "discard 4M 1M", "write -z 12M 3M", "write -P 7 12M 512")
    source.quietly("migrate_set_parameter max-bandwidth 4G")
    source.wait_migration("completed")
    expected = bytearray(noise(SIZE))
    expected[: 5 * MIB] = bytes(5 * MIB)
    expected[12 * MIB : 15 * MIB] = bytes(3 * MIB)
    expected[12 * MIB : 12 * MIB + 512] = b"\7" * 512
    assert (lab.folder / "target.img").read_bytes() == expected
    assert (lab.folder / "target.img").stat().st_blocks * 512 < 9 * MIB


def qemu_io(qmon: Qmon, *commands: str) -> str:
    """Run qemu-io on an exported drive; what it prints says that each command did its work."""
    words = [word for command in commands for word in ("-c", command)]
    done = subprocess.run(
        ["qemu-io", "-f", "raw", *words, f"nbd+unix:///d0?socket={qmon.nbd}"],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "failed" not in done.stdout + done.stderr, done.stdout
    return done.stdout


def test_what_qemu_io_writes_during_a_migration_arrives(lab: Lab) -> None:
    require("qemu-io")
    source, target, uri = lab.disk_pair(SIZE, bandwidth="256k")
    source.quietly(f"migrate -d blk {uri}")
    under_way(source)
    expected = bytearray(noise(SIZE))
    chance = random.Random(9)
    for _ in range(5):
        commands = []
        for _ in range(20):
            pattern = chance.randint(1, 255)
            length = chance.randint(1, 40) * 512
            offset = chance.randrange(0, SIZE - length, 512)
            flag = chance.choice(["", "-f "])
            commands.append(f"write {flag}-P {pattern} {offset} {length}")
            expected[offset : offset + length] = bytes([pattern]) * length
        qemu_io(source, *commands)
    assert source.migration() == "active", "the writes came while blocks travelled"
    source.quietly("migrate_set_parameter max-bandwidth 4G")
    source.wait_migration("completed")
    target.wait_status("running")
    assert (lab.folder / "target.img").read_bytes() == expected


FIO = ["fio", "--name=guest", "--ioengine=nbd", "--rw=randwrite", "--bs=4k", "--iodepth=8", "--size=8m"]
VERIFY = ["--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", "--minimal"]


def fio(qmon: Qmon, folder: Path, *more: str) -> list[str]:
    """The command of a fio that is a guest of an exported drive."""
    return [*FIO, *VERIFY, f"--uri=nbd+unix:///d0?socket={qmon.nbd}", f"--directory={folder}", *more]


def test_what_fio_wrote_during_a_migration_verifies_at_the_destination(lab: Lab) -> None:
    require("fio")
    source, target, uri = lab.disk_pair(SIZE, bandwidth="256k")
    source.quietly(f"migrate -d blk {uri}")
    under_way(source)
    writing = fio(source, lab.folder, "--do_verify=0")
    done = subprocess.run(writing, capture_output=True, text=True, timeout=PATIENCE, cwd=lab.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert source.migration() == "active", "fio has written while blocks travelled"
    source.quietly("migrate_set_parameter max-bandwidth 4G")
    source.wait_migration("completed")
    target.wait_status("running")
    checking = fio(target, lab.folder, "--verify_only")
    done = subprocess.run(checking, capture_output=True, text=True, timeout=PATIENCE, cwd=lab.folder)
    assert done.returncode == 0, done.stdout + done.stderr
    # and the check can fail: one sector of what fio wrote, spoiled, is found
    with target.guest() as guest:
        guest.write(3 * MIB, bytes(512))
    done = subprocess.run(checking, capture_output=True, text=True, timeout=PATIENCE, cwd=lab.folder)
    assert done.returncode != 0
    assert (lab.folder / "target.img").read_bytes()[8 * MIB :] == noise(SIZE)[8 * MIB :]

"""What an operator does to a migration, and what fate does: cancel, stop, limits, and processes that die."""

from __future__ import annotations

import contextlib
import re
import socket
import time

import pytest

from tests.support.guests import WritingGuest
from tests.support.images import KIB, MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import eventually

SIZE = 8 * MIB


def moving(lab: Lab, size: int = SIZE) -> tuple[Qmon, Qmon, str]:
    """A pair with a migration that would take a minute."""
    source, target, uri = lab.disk_pair(size, bandwidth="128k")
    source.quietly(f"migrate -d blk {uri}")
    target.wait_migration("active")
    eventually(lambda: target.kbytes("transferred disk") > 0, "blocks arrive")
    return source, target, uri


def hurry(source: Qmon) -> None:
    source.quietly("migrate_set_parameter max-bandwidth 4G")


# Cancelling


def test_a_cancelled_migration_leaves_the_source_running_and_can_be_repeated(lab: Lab) -> None:
    source, target, uri = moving(lab)
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    assert source.status() == "running"
    target.wait_migration("failed")
    assert "the images here are partial" in target.migration()
    assert target.status() == "paused (inmigrate)"
    with source.guest() as guest:
        guest.write(5 * MIB, noise(4096, 4))
        assert guest.read(0, 512) == noise(SIZE)[:512]
    hurry(source)
    migrated(source, target, f"migrate -d blk {uri}")
    assert (lab.folder / "target.img").read_bytes()[5 * MIB : 5 * MIB + 4096] == noise(4096, 4)
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_migration_that_does_not_even_connect_can_be_cancelled(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    with socket.socket() as deaf, contextlib.ExitStack() as others:
        deaf.bind(("127.0.0.1", 0))
        deaf.listen(0)  # and nobody accepts: what comes behind the backlog waits for ever
        for _ in range(4):
            other = others.enter_context(socket.socket())
            other.setblocking(False)
            other.connect_ex(deaf.getsockname())
        source.quietly(f"migrate -d blk tcp:127.0.0.1:{deaf.getsockname()[1]}")
        source.wait_migration("setup")
        source.quietly("migrate_cancel")
        source.wait_migration("cancelled")
    assert source.status() == "running"


def test_cancelling_what_is_not_under_way_does_nothing(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(MIB)
    source.quietly("migrate_cancel")
    assert source.migration() == "none"
    migrated(source, target, f"migrate -d blk {uri}")
    source.quietly("migrate_cancel")
    assert source.migration() == "completed"
    assert (source.status(), target.status()) == ("paused (postmigrate)", "running")


def test_a_second_migration_waits_for_the_first_to_end(lab: Lab) -> None:
    source, _, uri = moving(lab)
    assert source.command(f"migrate -d blk {uri}") == "Error: There's a migration process in progress"
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")


# Processes that die


def test_a_destination_that_dies_leaves_the_source_running(lab: Lab) -> None:
    source, target, uri = moving(lab)
    target.kill()
    status = source.wait_migration("failed")
    assert re.fullmatch(
        r"failed \((the destination closed|the connection to the destination was lost).*\)", status
    )
    assert source.status() == "running"
    with source.guest() as guest:
        guest.write(MIB, noise(512, 3))
        assert guest.read(MIB, 512) == noise(512, 3)
    hurry(source)
    again = lab.start("again", *drive(lab.folder / "target.img"), "-incoming", uri)
    migrated(source, again, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_source_that_dies_leaves_the_destination_listening(lab: Lab) -> None:
    source, target, uri = moving(lab)
    source.kill()
    target.wait_migration("failed")
    target.wait_log("the images here are partial")
    assert len(target.log().splitlines()) == 1, target.log()
    assert target.status() == "paused (inmigrate)"
    again = lab.start("again", *drive(lab.folder / "source.img"))
    migrated(again, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_source_that_is_told_to_quit_cancels_first(lab: Lab) -> None:
    source, target, _ = moving(lab)
    source.close()
    target.wait_migration("failed")
    assert target.status() == "paused (inmigrate)"


def test_a_destination_that_is_told_to_quit_ends_the_migration(lab: Lab) -> None:
    source, target, _ = moving(lab)
    target.close()
    source.wait_migration("failed")
    assert source.status() == "running"


# Run states


@pytest.mark.parametrize("source_paused", [False, True])
@pytest.mark.parametrize("target_paused", [False, True])
def test_a_machine_arrives_as_it_was_unless_the_destination_is_to_stand(
    lab: Lab, source_paused: bool, target_paused: bool
) -> None:
    source, target, uri = lab.pair(
        [*drive(filled(lab.folder / "a", MIB)), *(["-S"] if source_paused else [])],
        [*drive(blank(lab.folder / "b", MIB)), *(["-S"] if target_paused else [])],
    )
    assert source.status() == ("paused (prelaunch)" if source_paused else "running")
    migrated(source, target, f"migrate -d blk {uri}")
    assert target.status() == ("paused" if source_paused or target_paused else "running")
    assert same(lab.folder / "a", lab.folder / "b")
    target.quietly("cont")
    assert target.status() == "running"


def test_a_machine_that_stood_stands_again_after_a_failure(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "a", MIB)), "-S")
    source.quietly(f"migrate -d blk unix:{lab.folder}/nobody")
    source.wait_migration("failed")
    assert source.status() == "paused (prelaunch)"


def test_a_machine_can_be_stopped_and_continued_while_its_disk_moves(lab: Lab) -> None:
    source, target, _ = moving(lab)
    source.quietly("stop", "cont")
    with source.guest() as guest:
        guest.write(0, noise(512, 5))
    source.quietly("stop")
    assert (source.status(), source.migration()) == ("paused", "active")
    hurry(source)
    source.wait_migration("completed")
    target.wait_status("paused")
    assert (lab.folder / "target.img").read_bytes()[:512] == noise(512, 5)
    target.quietly("cont")
    with target.guest() as guest:
        assert guest.read(0, 512) == noise(512, 5)


@pytest.mark.parametrize("lines", [["stop"], ["stop", "cont"], ["cont"]])
def test_what_a_waiting_destination_is_told_holds_when_the_machine_is_there(
    lab: Lab, lines: list[str]
) -> None:
    """As in QEMU: ``stop`` before the arrival is ``-S``, and ``cont`` takes it back."""
    source, target, uri = lab.pair(
        drive(filled(lab.folder / "a", MIB)),
        [*drive(blank(lab.folder / "b", MIB)), *(["-S"] if lines == ["cont"] else [])],
    )
    target.quietly(*lines)
    assert target.status() == "paused (inmigrate)"
    migrated(source, target, f"migrate -d blk {uri}")
    assert target.status() == ("paused" if lines[-1] == "stop" else "running")


# Drives that come and go


def test_drives_stay_while_they_move(lab: Lab) -> None:
    source, target, _ = moving(lab)
    busy = "Node 'd0' is busy: block device is in use by migration"
    assert source.command("drive_del d0") == busy
    assert target.command("drive_del d0") == busy
    more = f"drive_add 0 file={blank(lab.folder / 'more', MIB)},id=d1,if=none,format=raw"
    for side in (source, target):
        assert "migrat" in side.command(more)
        assert "d1" not in side.command("info block")
    hurry(source)
    source.wait_migration("completed")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_drives_come_and_go_while_the_destination_waits(lab: Lab) -> None:
    a, b, c = (blank(lab.folder / name, MIB) for name in "abc")
    filled(a, MIB)
    source, target, uri = lab.pair(drive(a), drive(c, "unwanted"))
    assert target.command("drive_del unwanted") == ""
    assert target.command(f"drive_add 0 file={b},id=d0,if=none,format=raw") == "OK"
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(a, b)
    target.export("d0")
    with target.guest() as guest:
        assert guest.read(0, 512) == noise(MIB)[:512]


# Figures and limits


def test_both_sides_show_how_far_it_is(lab: Lab) -> None:
    source, target, _ = moving(lab)
    for side in (source, target):
        figures = side.figures()
        assert figures["Migration status"] == "active"
        assert figures["total disk"] == f"{SIZE // KIB} kbytes"
        assert re.fullmatch(r"\d+ ms", figures["total time"])
        assert re.fullmatch(r"\d+ ms", figures["setup"])
    eventually(
        lambda: 0 < target.kbytes("remaining disk") < SIZE // KIB, "the destination knows what is left"
    )
    first = source.kbytes("remaining disk")
    eventually(lambda: source.kbytes("remaining disk") < first, "less is left")
    figures = source.figures()
    sent, left = (
        int(figures[what].removesuffix(" kbytes")) for what in ("transferred disk", "remaining disk")
    )
    assert abs(sent + left - SIZE // KIB) <= 256
    hurry(source)
    source.wait_migration("completed")
    target.wait_migration("completed")
    for side in (source, target):
        assert side.kbytes("remaining disk") == 0
        assert side.kbytes("transferred disk") >= SIZE // KIB
    assert re.fullmatch(r"\d+ ms", source.figures()["downtime"])


@pytest.mark.parametrize("line", ["migrate_set_parameter max-bandwidth 4M", "migrate_set_speed 4M"])
def test_the_bandwidth_limit_is_kept(lab: Lab, line: str) -> None:
    source, target, uri = lab.disk_pair(4 * MIB)
    """That it is reached, too, test_progress checks by a clock of its own."""
    source.quietly(line)
    assert f"max-bandwidth: {4 * MIB} bytes/second" in source.command("info migrate_parameters")
    begun = time.monotonic()
    migrated(source, target, f"migrate -d blk {uri}")
    assert time.monotonic() - begun > 0.7


def test_a_very_low_bandwidth_is_kept_and_raising_it_helps_at_once(lab: Lab) -> None:
    source, _, uri = lab.disk_pair(SIZE)
    source.quietly("migrate_set_parameter max-bandwidth 1k", f"migrate -d blk {uri}")
    source.wait_migration("active")
    time.sleep(0.2)
    assert source.kbytes("transferred disk") <= 128
    hurry(source)
    source.wait_migration("completed")  # in a minute, not in two hours
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_machine_that_writes_too_much_waits_for_a_longer_downtime_limit(lab: Lab) -> None:
    """With 64 KiB/s and 1 ms only 64 bytes could be left, and what a guest writes takes seconds to send."""
    size = 256 * KIB
    images = [blank(lab.folder / f"{side}.img", size) for side in ("source", "target")]
    source, target, uri = lab.pair(*map(drive, images), bandwidth="64k")
    for side in (source, target):
        side.export("d0")
    source.quietly("migrate_set_downtime 0.001")
    with WritingGuest([source.nbd, target.nbd], bytes(size), pause=0.005) as guest:
        guest.wait_for(3)
        source.quietly(f"migrate -d blk {uri}")
        eventually(lambda: int(source.figures().get("dirty sync count", 0)) > 0, "the first pass")
        guest.wait_for(20)
        assert source.migration() == "active"
        source.quietly("migrate_set_parameter downtime-limit 10000")
        source.wait_migration("completed")
    assert guest.error is None
    assert (lab.folder / "target.img").read_bytes() == guest.content


def test_incoming_can_be_deferred(lab: Lab) -> None:
    image, empty = filled(lab.folder / "a", MIB), blank(lab.folder / "b", MIB)
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = lab.start("target", "-incoming", "defer")
    source = lab.start("source", *drive(image))
    assert source.command(f"migrate_incoming {uri}") == (
        "Error: '-incoming' was not specified on the command line"
    )
    assert target.command(f"drive_add 0 file={empty},id=d0,if=none,format=raw") == "OK"
    assert target.command("migrate_incoming tcp:127.0.0.1:1x").startswith("Error: address resolution failed")
    target.quietly(f"migrate_incoming {uri}")
    again = "Error: The incoming migration has already been started"
    assert target.command(f"migrate_incoming {uri}") == again
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(image, empty)


def test_after_a_failed_attempt_it_can_come_in_elsewhere(lab: Lab) -> None:
    source, target, uri = moving(lab)
    elsewhere = f"unix:{lab.folder / 'elsewhere.sock'}"
    started = "Error: The incoming migration has already been started"
    assert target.command(f"migrate_incoming {elsewhere}") == started
    source.quietly("migrate_cancel")
    target.wait_migration("failed")
    target.quietly(f"migrate_incoming {elsewhere}")
    source.quietly(f"migrate -d blk {uri}")
    assert "Failed to connect" in source.wait_migration("failed")
    hurry(source)
    migrated(source, target, f"migrate -d blk {elsewhere}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")

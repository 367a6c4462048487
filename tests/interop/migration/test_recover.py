"""With x-qmon-recover a broken line pauses a migration, and migrate -r continues it with what is missing."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pytest

from qmon.migration.wire.answers import AnswerReader, Type
from qmon.migration.wire.offer import DriveOffer, Mode, Offer, Resume
from qmon.migration.wire.stream import PREAMBLE, section_footer, section_start
from qmon.migration.wire.writer import RecordWriter
from tests.support import runs
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import run
from tests.support.qmp_client import QmpClient
from tests.support.visitors import drained
from tests.support.waiting import connected, eventually
from tests.support.wire import Cut, Wire, wired_pair

SIZE = 16 * MIB
RECOVER = "migrate_set_capability x-qmon-recover on"
SLOWLY = "migrate_set_parameter max-bandwidth 128k"
"""The rest of SIZE takes two minutes then: what is to happen meanwhile does, on a busy machine too."""
QUICKLY = "migrate_set_parameter max-bandwidth 0"


def wait_for_data(target: Qmon) -> None:
    """Wait until more than 1 MiB has arrived."""
    eventually(
        lambda: "transferred disk" in target.figures() and target.kbytes("transferred disk") > 1024,
        "something has arrived",
    )


def copying_pair(lab: Lab) -> tuple[Qmon, Qmon, str]:
    """A pair whose migration has sent more than 1 MiB, and goes on slowly."""
    source, target, uri = lab.disk_pair(SIZE, bandwidth="2M")
    for side in (source, target):
        side.quietly(RECOVER)
    source.quietly(f"migrate -d blk {uri}")
    target.wait_migration("active")
    wait_for_data(target)
    source.quietly(SLOWLY)
    return source, target, uri


def paused_pair(lab: Lab) -> tuple[Qmon, Qmon, str]:
    """A pair whose migration has sent something and is paused on both sides."""
    source, target, uri = copying_pair(lab)
    source.quietly("migrate_pause")
    source.wait_migration("postcopy-paused")
    target.wait_migration("postcopy-paused")
    return source, target, uri


def test_a_paused_side_says_what_to_type_there_and_here(lab: Lab) -> None:
    control = ["-qmp", f"unix:{lab.folder / 'qmp'},server,nowait"]
    there = [*drive(blank(lab.folder / "target.img", SIZE)), *control]
    here = drive(filled(lab.folder / "source.img", SIZE))
    source, target, uri = lab.pair(here, there, bandwidth="2M")
    for side in (source, target):
        side.quietly(RECOVER)
    source.quietly(f"migrate -d blk {uri}")
    wait_for_data(target)
    source.quietly(SLOWLY, "migrate_pause")
    target.wait_migration("postcopy-paused")
    at_it = ["-connect", control[1].split(",")[0]]
    listens = runs.run(*at_it, "-c", "info status")
    assert f"Waits at {uri} for the source to continue: type 'migrate -r {uri}' there\n" in listens.stderr
    waits = runs.run(*at_it, "-c", "wait")
    assert waits.returncode == 1
    assert "'migrate -r URI' at the source continues it, after 'migrate_recover URI' at the" in waits.stderr
    source.wait_migration("postcopy-paused")
    said = source.command("migrate -r unix:/nobody.sock")
    why = "Failed to connect to 'unix:/nobody.sock': No such file or directory"
    assert f"Error: the migration is paused ({why}): 'migrate -r URI' at the source continues it" in said


def test_a_paused_migration_continues_over_another_address_with_what_is_missing(lab: Lab) -> None:
    source, target, _ = paused_pair(lab)
    assert source.status() == "running"
    with source.guest() as guest:
        guest.write(0, b"x" * 4096)
    there = f"unix:{lab.folder / 'again.sock'}"
    target.quietly(f"migrate_recover {there}")
    source.quietly(QUICKLY)
    source.quietly(f"migrate -d -r {there}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    assert (lab.folder / "target.img").read_bytes()[:4096] == b"x" * 4096
    # What the destination had was not sent again.
    assert target.kbytes("transferred disk") <= SIZE // 1024 + 4


def again(lab: Lab, name: str, *options: str) -> Qmon:
    """Start a side once more, under another name for its sockets, with the records of before."""
    side = lab.start(f"{name}-again", *drive(lab.folder / f"{name}.img"), *options)
    assert side.migration().startswith("postcopy-paused")
    return side


@pytest.mark.parametrize("killed", ["source", "target", "both"])
def test_a_migration_goes_on_after_a_side_was_killed(lab: Lab, killed: str) -> None:
    source, target, uri = copying_pair(lab)
    if killed != "target":
        source.kill()
        target.wait_migration("postcopy-paused")
        source = again(lab, "source")
        assert source.status() == "running"
        source.export("d0")
        with source.guest() as guest:
            guest.write(8192, b"y" * 512)
    if killed != "source":
        target.kill()
        target = again(lab, "target", "-incoming", uri)
        assert target.status() == "paused (inmigrate)"
    source.wait_migration("postcopy-paused")
    source.quietly(QUICKLY, f"migrate -d -r {uri}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    # Only what differed was sent: a region of 64 KiB that was written, and one that had arrived in part.
    arrived = SIZE // 1024 if killed == "source" else SIZE // 1024 - 1024
    assert target.kbytes("transferred disk") <= arrived + 128


def test_a_cancelled_source_runs_on_and_tells_the_destination(lab: Lab) -> None:
    source, target, uri = paused_pair(lab)
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    assert source.status() == "running"
    assert "cancelled at the source; the images here are partial" in target.wait_migration("failed")
    source.quietly(QUICKLY)
    migrated(source, target, f"migrate -d blk {uri}")


def test_a_cancel_at_a_paused_destination_gives_the_images_up(lab: Lab) -> None:
    source, target, uri = paused_pair(lab)
    target.quietly("migrate_cancel")
    assert "cancelled here" in target.wait_migration("failed")
    said = source.command(f"migrate -r {uri}")
    assert "the destination's migration is 'failed' and can't be resumed" in said
    assert source.migration().startswith("postcopy-paused (the destination's migration is")
    assert source.status() == "running"
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")


def test_another_migration_is_refused_while_one_waits(lab: Lab) -> None:
    _, target, uri = paused_pair(lab)
    other = lab.start("other", *drive(filled(lab.folder / "other.img", SIZE)))
    assert "a paused migration waits here" in other.command(f"migrate blk {uri}")
    assert target.migration().startswith("postcopy-paused (")


def test_a_second_source_does_not_take_a_migration_that_goes_on(lab: Lab) -> None:
    source, target, uri = copying_pair(lab)
    id = UUID(source.qmp("query-migrate")["x-qmon-id"])
    writer = RecordWriter()
    writer.raw(PREAMBLE + section_start())
    offered = (DriveOffer("d0", SIZE, False),)
    writer.hello(Offer(id, Mode.FULL, offered, recover=True, resume=Resume(1, 0)).encode())
    writer.end()
    writer.raw(section_footer())
    with connected(Path(uri.removeprefix("unix:"))) as sock:
        sock.sendall(b"".join(bytes(piece) for piece in writer.buffers))
        answers = list(AnswerReader().feed(drained(sock)))
    assert [each.type for each in answers] == [Type.DISMISSED]
    assert answers[0].text.startswith("the destination has not lost its line yet: ")
    source.quietly(QUICKLY)
    source.wait_migration("completed")
    target.wait_status("running")


def test_without_the_capability_at_one_side_a_broken_line_fails_the_migration(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="128k")
    source.quietly(RECOVER, f"migrate -d blk {uri}")
    source.wait_log("the capability x-qmon-recover is off at the destination")
    assert "currently only supported" in source.command("migrate_pause")
    target.kill()
    source.wait_migration("failed")
    assert source.status() == "running"


def test_both_sides_say_why_it_is_paused_and_qmp_clients_are_told(lab: Lab) -> None:
    source, target, uri = copying_pair(lab)
    source.quietly("migrate_pause")
    source.wait_migration("postcopy-paused")
    target.wait_migration("postcopy-paused")
    assert source.qmp("query-migrate")["error-desc"] == "it was paused by migrate_pause"
    assert source.qmp("query-migrate")["x-qmon-can-resume"] is True
    said = target.qmp("query-migrate")["error-desc"]
    # It depends on what the destination was about to send.
    assert "closed the connection" in said or "the connection to the source was lost" in said
    assert source.qmp_error("migrate", uri=uri) == "There's a migration process in progress"
    assert "busy" in source.command("drive_del d0")


def test_qmp_clients_see_each_state(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE, bandwidth="2M")
    for side in (source, target):
        side.quietly(RECOVER, "migrate_set_capability events on")
    with QmpClient(source.qmp_path) as client:
        source.quietly(f"migrate -d blk {uri}")
        for side in (source, target):
            side.wait_migration("active")
        source.quietly("migrate_pause")
        source.wait_migration("postcopy-paused")
        target.wait_migration("postcopy-paused")
        source.quietly(QUICKLY)
        client.run("migrate", uri=uri, resume=True)
        source.wait_migration("completed")
        client.run("query-status")
        seen = [each["data"]["status"] for each in client.events if each["event"] == "MIGRATION"]
    states = ["setup", "active", "postcopy-paused", "postcopy-recover", "active", "device", "completed"]
    assert seen == states


def test_a_switchover_that_is_interrupted_lets_the_guests_on(lab: Lab) -> None:
    source, target, uri = copying_pair(lab)
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    target.wait_migration("failed")
    for line in (
        "migrate_set_capability pause-before-switchover on",
        "migrate_set_parameter max-bandwidth 0",
    ):
        source.quietly(line)
    source.quietly(f"migrate -d blk {uri}")
    source.wait_migration("pre-switchover")
    assert source.status() == "paused (finish-migrate)"
    target.quietly("migrate_pause")
    source.wait_migration("postcopy-paused")
    assert source.status() == "running"
    with source.guest() as guest:
        guest.write(0, b"z" * 512)
    source.quietly(f"migrate -d -r {uri}")
    source.wait_migration("pre-switchover")
    source.quietly("migrate_continue pre-switchover")
    source.wait_migration("completed")
    target.wait_status("running")
    assert (lab.folder / "target.img").read_bytes()[:512] == b"z" * 512
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize("killed", [False, True], ids=["alive", "killed"])
def test_a_lost_prepared_pauses_the_source_and_the_destination_takes_it_up_again(
    lab: Lab, killed: bool
) -> None:
    source, target, there, line = wired_pair(lab)
    for side in (source, target):
        side.quietly(RECOVER)

    def cut(kind: Type) -> None:
        if kind is Type.PREPARED:
            raise Cut

    with Wire(lab.folder / "wire", there, on_answer=cut).once():
        source.quietly(line)
        source.wait_migration("postcopy-paused")
    assert source.status() == "running"
    eventually(lambda: target.migration().startswith("device"), "the destination holds all data")
    with source.guest() as guest:
        guest.write(512, b"w" * 512)
    if killed:
        target.kill()
        target = lab.start("target-again", *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}")
        assert target.migration() == "device"
    source.quietly(f"migrate -d -r unix:{there}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert (lab.folder / "target.img").read_bytes()[512:1024] == b"w" * 512


def test_a_restarted_source_with_another_disk_is_refused_in_one_line(lab: Lab) -> None:
    source, target, uri = paused_pair(lab)
    source.kill()
    more = drive(filled(lab.folder / "more.img", MIB), "d1")
    source = again(lab, "source", *more)
    said = source.command(f"migrate -r {uri}").splitlines()[-1]
    assert said.startswith("Error: drive 'd1' is not one of those that the paused migration copies: ")
    assert source.migration().startswith("postcopy-paused (drive 'd1' is not one of those")
    assert target.migration().startswith("postcopy-paused (")
    assert source.status() == "running"


def test_a_source_goes_on_when_it_was_restarted_with_its_drives_in_another_order(lab: Lab) -> None:
    cd = filled(lab.folder / "cd.iso", MIB, 7)
    copy = lab.folder / "copy.iso"
    copy.write_bytes(cd.read_bytes())
    disk = drive(filled(lab.folder / "source.img", SIZE))
    source, target, uri = lab.pair(
        [*disk, *drive(cd, "cd0", readonly="on")],
        [*drive(blank(lab.folder / "target.img", SIZE)), *drive(copy, "cd0", readonly="on")],
        bandwidth="2M",
    )
    for side in (source, target):
        side.quietly(RECOVER)
    source.quietly(f"migrate -d blk {uri}")
    target.wait_migration("active")
    wait_for_data(target)
    source.quietly(SLOWLY)
    source.kill()
    target.wait_migration("postcopy-paused")
    source = lab.start("source-again", *drive(cd, "cd0", readonly="on"), *disk)
    source.quietly(f"migrate -d -r {uri}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    assert same(cd, copy)


def test_a_wrong_destination_leaves_it_paused(lab: Lab) -> None:
    source, target, uri = paused_pair(lab)
    there = f"unix:{lab.folder / 'wrong.sock'}"
    lab.start("other", *drive(blank(lab.folder / "other.img", SIZE)), "-incoming", there)
    assert "the destination has no paused migration of this source" in source.command(f"migrate -r {there}")
    assert "Failed to connect" in source.command(f"migrate -r unix:{lab.folder}/nobody.sock")
    source.quietly(QUICKLY, f"migrate -d -r {uri}")
    source.wait_migration("completed")
    target.wait_status("running")


def test_a_destination_restarted_without_incoming_does_not_run(lab: Lab) -> None:
    source, target, _ = paused_pair(lab)
    image = lab.folder / "target.img"
    target.kill()
    target = again(lab, "target")
    assert target.status() == "paused (inmigrate)"
    assert "the images here are partial" in target.migration()
    assert "Failed to get" in lab.start("thief").command(f"drive_add 0 {drive(image, 'd1')[1]}")
    there = f"unix:{lab.folder / 'again.sock'}"
    target.quietly(f"migrate_recover {there}")
    source.quietly(QUICKLY, f"migrate -d -r {there}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_an_overlay_goes_on_after_both_sides_have_ended(lab: Lab) -> None:
    base = filled(lab.folder / "base.img", SIZE, 3)
    for name in ("source", "target"):
        run("create", "-q", "-f", "qcow2", "-b", base, "-F", "raw", lab.folder / f"{name}.qcow2")
    options = {name: drive(lab.folder / f"{name}.qcow2", format="qcow2") for name in ("source", "target")}
    source, target, uri = lab.pair(options["source"], options["target"], bandwidth="1M")
    source.export("d0")
    with source.guest() as guest:
        for number in range(6):
            guest.write(2 * number * MIB, noise(MIB, number))
        guest.flush()
    for side in (source, target):
        side.quietly(RECOVER)
    source.quietly(f"migrate -d blk inc {uri}")
    target.wait_migration("active")
    wait_for_data(target)
    source.quietly(SLOWLY)
    source.kill()
    target.wait_log("waiting for the source")
    target.close()
    target = lab.start("target-again", *options["target"], "-incoming", uri)
    source = lab.start("source-again", *options["source"])
    source.quietly(QUICKLY, f"migrate -d -r {uri}")
    source.wait_migration("completed")
    target.wait_status("running")
    assert target.kbytes("transferred disk") <= 5 * 1024 + 64
    target.close()
    source.close()
    run("compare", lab.folder / "source.qcow2", lab.folder / "target.qcow2")

"""A process that was killed and is started again on the same images neither forgets nor runs."""

from __future__ import annotations

import subprocess

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import QMON, Lab, Qmon, migrated
from tests.support.wire import DOUBT, SIZE, Wire, doubt


def again(lab: Lab, name: str, *options: str) -> Qmon:
    """Start a side once more, under another name for its sockets, with the records of before."""
    return lab.start(f"{name}-again", *options)


@pytest.mark.parametrize("heard", [False, True], ids=["go lost", "answer lost"])
def test_a_source_in_doubt_that_is_killed_still_asks_and_does_not_run(lab: Lab, heard: bool) -> None:
    source, target, there = doubt(lab, heard=heard)
    source.kill()
    source = again(lab, "source", *drive(lab.folder / "source.img"))
    assert source.status() == "paused (finish-migrate)"
    assert source.migration().startswith(f"device ({DOUBT}")
    source.export("d0")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")
    assert source.status() == "paused (postmigrate)"
    target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_prepared_destination_that_is_killed_waits_for_go_again(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=False)
    target.kill()
    target = again(lab, "target", *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}")
    assert target.status() == "paused (inmigrate)"
    assert target.migration() == "device"
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")
        target.wait_status("running")
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_prepared_destination_that_is_started_without_incoming_does_not_run(lab: Lab) -> None:
    _, target, _ = doubt(lab, heard=False)
    target.kill()
    target = again(lab, "target", *drive(lab.folder / "target.img"))
    assert target.status() == "paused (inmigrate)"
    target.wait_log("waits for its source to release them")
    target.quietly("migrate_resolve keep")
    target.wait_status("running")


def test_a_destination_that_refused_says_so_when_it_is_started_again(lab: Lab) -> None:
    _, target, there = doubt(lab, heard=False)
    target.quietly("migrate_resolve release")
    target.kill()
    target = again(lab, "target", *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}")
    assert target.migration() == "failed (the migration was refused before this side was restarted)"


def test_a_destination_that_ran_and_is_killed_runs_again_and_answers(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=True)
    target.kill()
    target = again(lab, "target", *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}")
    target.wait_status("running")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")


def test_a_source_that_has_handed_over_stands_still_when_it_is_started_again(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    source.kill()
    source = again(lab, "source", *drive(lab.folder / "source.img"))
    assert source.status() == "paused (postmigrate)"
    source.wait_log("the disks were moved to")
    source.quietly("migrate_resolve keep")
    assert source.status() == "running"
    source.export("d0")
    with source.guest() as guest:
        assert guest.read(0, 512) == noise(SIZE)[:512]
    source.close()
    source = lab.start("source-third", *drive(lab.folder / "source.img"))
    assert source.status() == "running"


def test_a_disk_can_come_back_to_where_it_was(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    source.close()
    back = f"unix:{lab.folder / 'back.sock'}"
    source = again(lab, "source", *drive(lab.folder / "source.img"), "-incoming", back)
    with target.guest() as guest:
        guest.write(0, noise(4096, 5))
    migrated(target, source, f"migrate -d blk {back}")
    assert (lab.folder / "source.img").read_bytes()[:4096] == noise(4096, 5)
    source.kill()
    source = lab.start("source-third", *drive(lab.folder / "source.img"))
    assert source.status() == "running"


def test_a_damaged_record_keeps_the_machine_from_starting(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    source.kill()
    (record,) = lab.state.glob("migration/source.img.*.source.json")
    record.write_text("{")
    options = [*drive(lab.folder / "source.img"), "-statedir", str(lab.state), "-monitor", "none"]
    ended = subprocess.run([*QMON, *options], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    assert ended.stderr == (
        f"qmon: the migration's record {record} is damaged: find out which side runs, then remove it\n"
    )


def test_a_state_folder_that_can_not_be_written_keeps_the_disks_here(lab: Lab) -> None:
    state = lab.folder / "blocked"
    uri = f"unix:{lab.folder / 'mig.sock'}"
    target = lab.start("target", *drive(blank(lab.folder / "target.img", MIB)), "-incoming", uri)
    source = lab.start("source", *drive(filled(lab.folder / "source.img", MIB)), "-statedir", str(state))
    (state / "migration").write_text("a file, where a folder belongs")
    source.quietly(f"migrate -d blk {uri}")
    assert "record can't be written" in source.wait_migration("failed")
    assert source.status() == "running"
    assert target.status() == "paused (inmigrate)"

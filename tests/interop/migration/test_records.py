"""Records of a migration are found by the image, whatever its name, and each host keeps its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from qmon.migration.wire.answers import Type
from tests.support import peers
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import QMON, Lab, Qmon, migrated
from tests.support.wire import SIZE, Wire, doubt, wired_pair

GONE, MOVED = "paused (finish-migrate)", "paused (postmigrate)"


def own_state(lab: Lab, name: str) -> list[str]:
    """Options for a side that keeps its records apart from the other's, as on another host."""
    return ["-statedir", str(lab.folder / f"state-{name}")]


# Shared storage.


@pytest.mark.parametrize("apart", [False, True], ids=["one state folder", "two"])
def test_a_source_of_shared_disks_stands_still_when_it_is_started_again(lab: Lab, apart: bool) -> None:
    """Whether locks would keep it out or not: on a SAN they do not reach the other host."""
    image = filled(lab.folder / "disk.img", MIB)
    mine, theirs = (own_state(lab, name) if apart else [] for name in ("source", "target"))
    source, target, uri = lab.pair([*drive(image), *mine], [*drive(image), *theirs])
    migrated(source, target, f"migrate -d {uri}")
    source.close()
    target.close()
    source = lab.start("source-again", *drive(image), *mine)
    assert source.status() == MOVED
    source.wait_log("the disks were moved to")
    source.quietly("migrate_resolve keep")
    assert source.status() == "running"
    source.close()
    assert lab.start("source-third", *drive(image), *mine).status() == "running"


def test_shared_disks_come_back_to_where_they_were(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", MIB)
    mine, theirs = own_state(lab, "source"), own_state(lab, "target")
    source, target, uri = lab.pair([*drive(image), *mine], [*drive(image), *theirs])
    migrated(source, target, f"migrate -d {uri}")
    source.close()
    back = f"unix:{lab.folder / 'back.sock'}"
    source = lab.start("source-again", *drive(image), *mine, "-incoming", back)
    assert source.status() == "paused (inmigrate)"
    migrated(target, source, f"migrate -d {back}")
    target.close()
    source.close()
    assert lab.start("target-again", *drive(image), *theirs).status() == MOVED
    assert lab.start("source-third", *drive(image), *mine).status() == "running"


# Other names, and other images.


def to_hard_link(image: Path) -> Path:
    name = image.with_name("other-name.img")
    os.link(image, name)
    return name


def to_new_name(image: Path) -> Path:
    return image.rename(image.with_name("renamed.img"))


def to_other_file_system(image: Path) -> Path:
    """As mv does it: the content goes to another file, with its time."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    return Path(shutil.move(image, folder / image.name))


def to_replaced_file(image: Path) -> Path:
    """As a restored backup: another file with the same content, made anew."""
    content = image.read_bytes()
    image.unlink()
    image.write_bytes(content)
    return image


RENAMED = [to_hard_link, to_new_name, to_other_file_system, to_replaced_file]


@pytest.mark.parametrize("rename", RENAMED)
def test_a_source_that_has_handed_over_is_known_under_other_names(
    lab: Lab, rename: Callable[[Path], Path]
) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    source.close()
    image = rename(lab.folder / "source.img")
    try:
        source = lab.start("source-again", *drive(image))
        assert source.status() == MOVED
        source.quietly("migrate_resolve keep")
        source.close()
        assert lab.start("source-third", *drive(image)).status() == "running"
    finally:
        if image.parent != lab.folder:
            shutil.rmtree(image.parent)


@pytest.mark.parametrize("rename", RENAMED[:2])
def test_a_source_in_doubt_is_known_under_other_names(lab: Lab, rename: Callable[[Path], Path]) -> None:
    source, _, there = doubt(lab, heard=True)
    source.kill()
    source = lab.start("source-again", *drive(rename(lab.folder / "source.img")))
    assert source.status() == GONE
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")


@pytest.mark.parametrize("rename", RENAMED[:2])
def test_a_destination_is_known_under_other_names(lab: Lab, rename: Callable[[Path], Path]) -> None:
    source, target, there = doubt(lab, heard=False)
    target.kill()
    image = rename(lab.folder / "target.img")
    target = lab.start("target-again", *drive(image), "-incoming", f"unix:{there}")
    assert (target.status(), target.migration()) == ("paused (inmigrate)", "device")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")
    target.wait_status("running")
    assert same(lab.folder / "source.img", image)


@pytest.mark.parametrize("content", [b"", noise(SIZE, 2)], ids=["blank", "other content"])
def test_a_new_image_under_an_old_name_runs(lab: Lab, content: bytes) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    source.close()
    image = lab.folder / "source.img"
    image.unlink()
    blank(image, SIZE)
    with image.open("r+b") as file:
        file.write(content)
    assert lab.start("source-again", *drive(image)).status() == "running"


def test_a_copy_of_a_template_is_not_taken_for_another_that_was_handed_over(lab: Lab) -> None:
    template = filled(lab.folder / "template.img", SIZE)
    for name in ("source.img", "other.img"):
        shutil.copyfile(template, lab.folder / name)
    target = lab.launch("target", *drive(blank(lab.folder / "target.img", SIZE)), "-incoming", "defer")
    source = lab.start("source", *drive(lab.folder / "source.img"))
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target.quietly(f"migrate_incoming {uri}")
    migrated(source, target, f"migrate -d blk {uri}")
    assert lab.start("other", *drive(lab.folder / "other.img")).status() == "running"


def test_two_hosts_with_one_state_folder_do_not_touch_each_others_records(lab: Lab) -> None:
    """The hosts are mount namespaces: the same path leads to an image of each one's own."""
    peers.require("unshare")
    user = [] if os.getuid() == 0 else ["--map-root-user"]
    if subprocess.run(["unshare", "--mount", *user, "true"], capture_output=True).returncode:
        peers.lack("mount namespaces")
    path = lab.folder / "images"
    path.mkdir()

    def on(host: str, name: str, *options: str) -> Qmon:
        enter = f'mount --bind "{lab.folder / host}" "{path}" && exec "$@"'
        within = ["unshare", "--mount", *user, "--propagation", "private", "sh", "-c", enter, "sh"]
        return lab.start(name, *drive(path / "disk.img"), *options, within=within)

    for host in ("here", "there"):
        (lab.folder / host).mkdir()
    filled(lab.folder / "here" / "disk.img", SIZE)
    blank(lab.folder / "there" / "disk.img", SIZE)
    uri = f"unix:{lab.folder / 'migrate.sock'}"
    target = on("there", "target", "-incoming", uri)
    source = on("here", "source")
    migrated(source, target, f"migrate -d blk {uri}")
    source.kill()
    target.kill()
    assert on("here", "source-again").status() == MOVED
    assert on("there", "target-again", "-incoming", uri).status() == "running"


# What a destination remembers.


def test_a_destination_that_ran_and_ended_still_says_so_to_a_source_in_doubt(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=True)
    with target.guest() as guest:
        guest.write(0, noise(512, 5))
    target.close()
    target = lab.start("target-again", *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}")
    target.wait_status("running")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")
    assert source.status() == MOVED
    assert (lab.folder / "target.img").read_bytes()[:512] == noise(512, 5)


def test_a_destination_whose_source_has_heard_it_waits_for_another_after_a_good_end(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    target.close()
    target = lab.start("target-again", *drive(lab.folder / "target.img"), "-incoming", uri)
    assert (target.status(), target.migration()) == ("paused (inmigrate)", "none")


def test_a_destination_that_passed_the_disk_on_says_that_it_ran(lab: Lab) -> None:
    """A source in doubt must not take its disk back when what it handed over has moved on."""
    source, target, there = doubt(lab, heard=True)
    onward = f"unix:{lab.folder / 'onward.sock'}"
    third = lab.start("third", *drive(blank(lab.folder / "third.img", SIZE)), "-incoming", onward)
    migrated(target, third, f"migrate -d blk {onward}")
    target.close()
    target = lab.start("target-again", *drive(lab.folder / "target.img"), "-incoming", f"unix:{there}")
    assert target.status() == "paused (inmigrate)"
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")


# Records out of a backup.


def test_a_record_that_is_older_than_the_image_keeps_the_machine_from_starting(lab: Lab) -> None:
    source, target, _ = doubt(lab, heard=False)
    (record,) = lab.state.glob("migration/*.source.json")
    kept = record.read_bytes()
    target.quietly("migrate_resolve release")
    source.quietly("migrate_resolve keep")
    with source.guest() as guest:
        guest.write(0, noise(512, 5))
    source.close()
    record.write_bytes(kept)
    options = [*drive(lab.folder / "source.img"), "-statedir", str(lab.state), "-monitor", "none"]
    ended = subprocess.run([*QMON, *options], capture_output=True, text=True, timeout=20)
    assert ended.returncode == 1
    (said,) = ended.stderr.splitlines()
    assert said.startswith("qmon: drive 'd0': its image has changed since migration ")
    assert said.endswith(f"find out which side ran last, then remove {record}")


# The image's own name.


def unlinked(image: Path) -> None:
    image.unlink()


def replaced(image: Path) -> None:
    blank(image.with_suffix(".new"), SIZE).replace(image)


@pytest.mark.parametrize("change", [unlinked, replaced])
@pytest.mark.parametrize("step", [Type.AGREED, Type.PREPARED])
def test_a_destination_whose_image_has_lost_its_name_refuses(
    lab: Lab, step: Type, change: Callable[[Path], None]
) -> None:
    source, target, there, line = wired_pair(lab)

    def lose(kind: Type) -> None:
        if kind is step:
            change(lab.folder / "target.img")

    with Wire(lab.folder / "wire", there, on_answer=lose).once():
        source.quietly(line)
        status = source.wait_migration("failed")
    path = lab.folder / "target.img"
    assert f"'{path}' was removed or replaced while it was open" in status
    assert source.status() == "running"
    assert target.status() == "paused (inmigrate)"
    with source.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)


def test_a_source_does_not_take_another_image_back_than_it_gave_away(lab: Lab) -> None:
    source, target, _ = doubt(lab, heard=False)
    replaced(lab.folder / "source.img")
    target.quietly("migrate_resolve release")
    assert "was removed or replaced" in source.command("migrate_resolve keep")
    assert source.status() != "running"

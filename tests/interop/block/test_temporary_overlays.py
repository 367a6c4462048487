"""``-snapshot``: guests write to an overlay that nobody else sees, and that leaves nothing behind."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from tests.support.images import MIB, blank, drive, filled, noise
from tests.support.locks_probe import locked_bytes
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qcow2_images import content, read, run, run_io
from tests.support.runs import one_line, run_in

SIZE = 4 * MIB
WRITTEN = noise(MIB, 7)


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    return folder


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return filled(tmp_path / "d0.img", SIZE)


def write(qmon: Qmon) -> None:
    """A guest writes and reads it back."""
    qmon.export("d0")
    with qmon.guest() as guest:
        guest.write(MIB, WRITTEN)
        guest.flush()
        assert guest.read(MIB, MIB) == WRITTEN


@pytest.mark.parametrize("option", ["-snapshot", "snapshot=on"])
def test_what_guests_write_does_not_reach_the_image(
    option: str, lab: Lab, image: Path, temporary: Path
) -> None:
    before = image.read_bytes()
    options = [*drive(image), "-snapshot"] if option == "-snapshot" else drive(image, snapshot="on")
    qmon = lab.start("one", *options)
    write(qmon)
    assert image.read_bytes() == before
    assert locked_bytes(image) == {100, 201, 203}
    assert list(temporary.iterdir()) == []
    assert "writeback, ignore flushes" in qmon.command("info block d0")
    qmon.kill()
    assert list(temporary.iterdir()) == []
    assert image.read_bytes() == before


def test_commit_writes_it_to_the_image(lab: Lab, image: Path, temporary: Path) -> None:
    qmon = lab.start("one", *drive(image, snapshot="on"))
    write(qmon)
    qmon.quietly("commit d0")
    assert image.read_bytes()[MIB : 2 * MIB] == WRITTEN
    assert locked_bytes(image) == {100, 201, 203}


def test_a_commit_to_a_probed_raw_image_can_not_make_it_look_like_another(
    lab: Lab, image: Path, temporary: Path
) -> None:
    qmon = lab.start("one", "-drive", f"file={image},id=d0,if=none", "-snapshot")
    qmon.export("d0")
    with qmon.guest() as guest:
        guest.write(0, b"QFI\xfb" + bytes(508))
    assert "the disk was probed as raw, give format=raw" in qmon.command("commit d0")
    assert image.read_bytes()[:512] == noise(SIZE)[:512]


def test_a_migration_copies_what_guests_see(lab: Lab, image: Path, temporary: Path) -> None:
    before = image.read_bytes()
    empty = blank(lab.folder / "target.img", SIZE)
    source, target, uri = lab.pair(drive(image, snapshot="on"), drive(empty))
    write(source)
    migrated(source, target, f"migrate -d -b {uri}")
    expected = bytearray(before)
    expected[MIB : 2 * MIB] = WRITTEN
    assert empty.read_bytes() == expected
    assert image.read_bytes() == before


def test_a_destination_can_receive_into_one(lab: Lab, image: Path, temporary: Path) -> None:
    empty = blank(lab.folder / "target.img", SIZE)
    source, target, uri = lab.pair(drive(image), [*drive(empty), "-snapshot"])
    migrated(source, target, f"migrate -d -b {uri}")
    target.export("d0")
    with target.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)
    assert empty.read_bytes() == bytes(SIZE)


def test_the_source_goes_on_after_a_migration_that_failed(lab: Lab, image: Path, temporary: Path) -> None:
    other = blank(lab.folder / "target.img", SIZE + MIB)
    source, _, uri = lab.pair(drive(image, snapshot="on"), drive(other))
    write(source)
    source.quietly(f"migrate -d -b {uri}")
    source.wait_migration("failed")
    with source.guest() as guest:
        assert guest.read(MIB, MIB) == WRITTEN
        guest.write(0, WRITTEN)


def test_what_was_written_is_there_when_the_image_comes_back(image: Path, temporary: Path) -> None:
    """As after a migration that failed at its end, without a flush of the guest's."""
    names = (f"#block{number}" for number in itertools.count())
    settings = DriveOptions("d0", str(image), "raw", "none", read_only=False, is_temporary=True)
    disk = Drive(settings, lambda: next(names))
    disk.activate()
    disk.node.write(MIB, WRITTEN)
    disk.deactivate(flush=False)
    disk.activate()
    assert read(disk.node, MIB, MIB) == WRITTEN
    disk.close()


def test_no_other_overlay_rests_on_it(lab: Lab, image: Path, temporary: Path) -> None:
    qmon = lab.start("one", *drive(image, snapshot="on"))
    assert qmon.command(f"snapshot_blkdev d0 {lab.folder}/over").startswith(
        "Error: drive 'd0' writes to a temporary"
    )
    assert not (lab.folder / "over").exists()


def test_nodes_have_none(lab: Lab, image: Path, temporary: Path) -> None:
    node = f"driver=raw,node-name=d0,file.driver=file,file.filename={image}"
    qmon = lab.start("one", "-blockdev", node, "-snapshot")
    write(qmon)
    assert image.read_bytes()[MIB : 2 * MIB] == WRITTEN


def test_without_a_folder_for_it_nothing_starts(tmp_path: Path, image: Path, temporary: Path) -> None:
    temporary.rmdir()
    said = one_line(run_in(tmp_path, *drive(image, snapshot="on")))
    why = f"can't create a temporary overlay in '{temporary}': No such file or directory"
    assert said == f"Could not open '{image}': {why}"


def test_a_qcow2_image_with_snapshots_and_a_backing_file_stays_as_it_is(lab: Lab, temporary: Path) -> None:
    require("qemu-img", "qemu-io")
    base, top = lab.folder / "base.qcow2", lab.folder / "top.qcow2"
    run("create", "-q", "-f", "qcow2", base, SIZE)
    run_io(base, "write -P 3 0 2M")
    run("create", "-q", "-f", "qcow2", "-b", base.name, "-F", "qcow2", top)
    run_io(top, "write -P 4 0 1M")
    run("snapshot", "-c", "s", top)
    before = top.read_bytes()
    qmon = lab.start("one", *drive(top, format="qcow2", snapshot="on"))
    write(qmon)
    qmon.close()
    assert top.read_bytes() == before
    assert content(top) == b"\4" * MIB + b"\3" * MIB + bytes(2 * MIB)


def test_a_chain_named_in_json_migrates(lab: Lab) -> None:
    """An incremental copy compares what backs the disks, however it is named."""
    require("qemu-img", "qemu-io")
    base = lab.folder / "base.qcow2"
    run("create", "-q", "-f", "qcow2", base, SIZE)
    run_io(base, "write -P 3 0 2M")
    name = f'json:{{"driver":"qcow2","file":{{"driver":"file","filename":"{base}"}}}}'
    tops = [lab.folder / "a.qcow2", lab.folder / "b.qcow2"]
    run("create", "-q", "-f", "qcow2", "-b", name, "-F", "qcow2", tops[0])
    run("create", "-q", "-f", "qcow2", "-b", base, "-F", "qcow2", tops[1])
    node = ["-blockdev", f"driver=qcow2,node-name=d0,file.driver=file,file.filename={tops[0]}"]
    source, target, uri = lab.pair(node, drive(tops[1], format="qcow2"))
    write(source)
    migrated(source, target, f"migrate -d -i {uri}")
    source.close()
    target.close()
    assert content(tops[0]) == content(tops[1])

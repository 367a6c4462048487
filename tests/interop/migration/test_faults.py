"""The connection is cut or held at each step of a migration: at most one side runs, and doubt is said."""

from __future__ import annotations

import threading

import pytest

from qmon.migration.wire.answers import Type
from tests.support.images import MIB, noise, same
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import PATIENCE
from tests.support.wire import DOUBT, SIZE, Cut, Wire, doubt, wired_pair


def runs_on(source: Qmon) -> None:
    """The source serves its guests, with its data."""
    assert source.status() == "running"
    with source.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)
        guest.write(0, noise(512, 9))
        guest.write(0, noise(SIZE)[:512])


@pytest.mark.parametrize(
    ("step", "shared"),
    [
        (Type.AGREED, False),
        (Type.AGREED, True),
        (Type.FLUSHED, False),
        (Type.PREPARED, False),
        (Type.PREPARED, True),
    ],
)
def test_a_connection_that_is_cut_before_go_leaves_the_source_running(
    lab: Lab, step: Type, shared: bool
) -> None:
    source, target, there, line = wired_pair(lab, shared=shared)

    def cut(kind: Type) -> None:
        if kind is step:
            raise Cut

    wire = Wire(lab.folder / "wire", there, on_answer=cut)
    with wire.once():
        source.quietly(line)
        source.wait_migration("failed")
    runs_on(source)
    # A destination that is prepared can't know that the source has gone back: it waits, or takes another.
    target.wait_migration("device" if step is Type.PREPARED else "failed")
    assert target.status() == "paused (inmigrate)"
    migrated(source, target, line.replace(wire.uri, f"unix:{there}"))
    assert shared or same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize("heard", [False, True], ids=["go lost", "answer lost"])
@pytest.mark.parametrize("shared", [False, True], ids=["copied", "shared"])
def test_a_source_in_doubt_asks_again_until_it_hears(lab: Lab, shared: bool, heard: bool) -> None:
    source, target, there = doubt(lab, shared=shared, heard=heard)
    assert target.status() == ("running" if heard else "paused (inmigrate)")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("completed")
        target.wait_status("running")
    assert source.status() == "paused (postmigrate)"
    with target.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)


def test_the_operator_gives_the_disks_to_the_source(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=False)
    target.quietly("migrate_resolve release")
    target.wait_migration("failed")
    source.quietly("migrate_resolve keep")
    runs_on(source)
    assert target.status() == "paused (inmigrate)"
    migrated(source, target, f"migrate -d blk unix:{there}")


def test_the_operator_gives_the_disks_to_the_destination(lab: Lab) -> None:
    source, target, _ = doubt(lab, heard=False)
    source.quietly("migrate_resolve release")
    source.wait_migration("completed")
    target.quietly("migrate_resolve keep")
    target.wait_status("running")
    assert source.status() == "paused (postmigrate)"
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_destination_that_was_told_to_release_refuses_when_it_is_asked(lab: Lab) -> None:
    source, target, there = doubt(lab, heard=False)
    target.quietly("migrate_resolve release")
    with Wire(lab.folder / "wire", there).once():
        source.wait_migration("failed")
    runs_on(source)


def test_a_source_that_has_handed_over_runs_again_only_by_force(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    migrated(source, target, f"migrate -d blk {uri}")
    assert source.command("cont").startswith("Error: A migration has moved the disks")
    target.close()
    source.quietly("cont -f")
    runs_on(source)


def test_where_nothing_is_in_doubt_there_is_nothing_to_resolve(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(SIZE)
    nothing = "Error: There is nothing to resolve: "
    assert source.command("migrate_resolve keep") == f"{nothing}there was no migration"
    assert target.command("migrate_resolve keep") == f"{nothing}the migration is none"
    migrated(source, target, f"migrate -d blk {uri}")
    assert target.command("migrate_resolve keep") == f"{nothing}the migration is completed"
    assert target.command("migrate_resolve release") == f"{nothing}the migration is completed"


def test_whoever_waits_for_the_end_is_told_of_doubt(lab: Lab) -> None:
    source, _, there, line = wired_pair(lab)

    def cut(kind: Type) -> None:
        if kind is Type.RUNNING:
            raise Cut

    with Wire(lab.folder / "wire", there, on_answer=cut).once():
        answer = source.command(line.replace("-d ", ""))
    assert answer.splitlines()[-1].startswith(f"Error: {DOUBT}the destination closed the connection.")


def test_a_destination_that_can_not_open_the_shared_image_refuses_and_the_source_runs_on(lab: Lab) -> None:
    source, target, there, line = wired_pair(lab, shared=True)
    link = lab.folder / "link.img"

    def remove(kind: Type) -> None:
        if kind is Type.PREPARED:
            link.rename(lab.folder / "away")

    with Wire(lab.folder / "wire", there, on_answer=remove).once():
        source.quietly(line)
        status = source.wait_migration("failed")
    assert status == (
        "failed (the destination refused to run: drive 'd0' can't be opened at the destination:"
        " No such file or directory)"
    )
    runs_on(source)
    assert target.status() == "paused (inmigrate)"
    target.wait_log("No such file or directory")
    (lab.folder / "away").rename(link)
    migrated(source, target, line.replace(str(lab.folder / "wire"), str(there)))


def test_a_cancel_while_the_destination_prepares_takes_effect(lab: Lab) -> None:
    source, target, there, line = wired_pair(lab)
    held, go_on = threading.Event(), threading.Event()

    def hold(kind: Type) -> None:
        if kind is Type.PREPARED:
            held.set()
            go_on.wait(PATIENCE)

    wire = Wire(lab.folder / "wire", there, on_answer=hold)
    with wire.once():
        source.quietly(line)
        assert held.wait(PATIENCE)
        assert source.status() == "paused (finish-migrate)"
        source.quietly("migrate_cancel")
        source.wait_migration("cancelled")
        go_on.set()
    runs_on(source)
    migrated(source, target, line.replace(wire.uri, f"unix:{there}"))
    assert same(lab.folder / "source.img", lab.folder / "target.img")


def test_a_stop_during_the_switchover_is_refused_not_lost(lab: Lab) -> None:
    source, _, there, line = wired_pair(lab)
    held, go_on = threading.Event(), threading.Event()

    def hold(kind: Type) -> None:
        if kind is Type.PREPARED:
            held.set()
            go_on.wait(PATIENCE)

    with Wire(lab.folder / "wire", there, on_answer=hold).once():
        source.quietly(line)
        assert held.wait(PATIENCE)
        assert source.command("stop") == "Error: Migration is not finalized yet"
        go_on.set()
        source.wait_migration("completed")


def test_a_guest_that_waits_at_the_switchover_is_served_when_it_fails(lab: Lab) -> None:
    source, _, there, line = wired_pair(lab)
    written = threading.Event()

    def write() -> None:
        with source.guest() as guest:
            guest.write(MIB, noise(4096, 8))
        written.set()

    writer = threading.Thread(target=write)

    def hold(kind: Type) -> None:
        if kind is Type.PREPARED:
            writer.start()
            assert not written.wait(0.2)
            raise Cut

    with Wire(lab.folder / "wire", there, on_answer=hold).once():
        source.quietly(line)
        source.wait_migration("failed")
    assert written.wait(PATIENCE)
    writer.join()
    assert (lab.folder / "source.img").read_bytes()[MIB : MIB + 4096] == noise(4096, 8)

"""A disk moves over commands and descriptors, two ways where the other end is, else one way."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.support.images import MIB, blank, drive, filled, same
from tests.support.peers import require
from tests.support.processes import Lab, Qmon, migrated
from tests.support.qmp_client import QmpClient
from tests.support.sshd import Sshd

SIZE = 8 * MIB + 512


def source_of(lab: Lab, *options: str, within: list[str] | None = None) -> Qmon:
    return lab.start("source", *drive(filled(lab.folder / "a.img", SIZE)), *options, within=within or [])


def target_of(lab: Lab, uri: str, within: list[str] | None = None) -> Qmon:
    image = blank(lab.folder / "b.img", SIZE)
    return lab.start("target", *drive(image), "-incoming", uri, within=within or [])


def arrived(lab: Lab, source: Qmon, target: Qmon, *, confirmed: bool) -> None:
    """All of the disk is there, and the source knows it, or says that nobody has confirmed it."""
    assert same(lab.folder / "a.img", lab.folder / "b.img")
    assert (source.status(), target.status()) == ("paused (postmigrate)", "running")
    assert ("unconfirmed: " in source.command("info migrate")) is not confirmed
    moved_on = source.command("cont")
    assert ("A migration has moved the disks" in moved_on) is confirmed


@pytest.mark.parametrize("inc", ["blk", "inc"])
def test_socat_to_a_destination_that_listens(lab: Lab, inc: str) -> None:
    require("socat")
    target = target_of(lab, f"unix:{lab.folder}/in")
    source = source_of(lab)
    migrated(source, target, f'migrate -d {inc} "exec:socat - unix:{lab.folder}/in"')
    arrived(lab, source, target, confirmed=True)


def test_socat_at_the_destination_that_a_source_connects_to(lab: Lab) -> None:
    require("socat")
    target = target_of(lab, f"exec:socat unix-listen:{lab.folder}/in -")
    source = source_of(lab)
    migrated(source, target, f"migrate -d blk unix:{lab.folder}/in")
    arrived(lab, source, target, confirmed=True)


def test_socat_on_both_sides(lab: Lab) -> None:
    require("socat")
    target = target_of(lab, f"exec:socat unix-listen:{lab.folder}/in -")
    source = source_of(lab)
    migrated(source, target, f'migrate -d blk "exec:socat - unix-connect:{lab.folder}/in"')
    arrived(lab, source, target, confirmed=True)


def test_a_trial_over_a_command(lab: Lab) -> None:
    require("socat")
    target_of(lab, f"unix:{lab.folder}/in")
    source = source_of(lab)
    assert "would accept the migration" in source.command(
        f'migrate -n blk "exec:socat - unix:{lab.folder}/in"'
    )
    assert "does not answer" in source.command(f'migrate -n blk "exec:cat > {lab.folder}/x"')
    assert "A trial needs answers" in source.command(f"migrate -n blk file:{lab.folder}/x")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    require("ssh", "sshd")
    server = Sshd(tmp_path / "ssh")
    yield server
    server.close()


def test_ssh_to_a_destination_that_listens(lab: Lab, sshd: Sshd) -> None:
    require("socat")
    target = target_of(lab, f"unix:{lab.folder}/in")
    source = source_of(lab)
    migrated(source, target, f'migrate -d blk "exec:{sshd.client} socat - unix:{lab.folder}/in"')
    arrived(lab, source, target, confirmed=True)


def test_ssh_to_a_destination_that_runs_a_command(lab: Lab, sshd: Sshd) -> None:
    require("socat")
    target = target_of(lab, f"exec:{sshd.client} socat unix-listen:{lab.folder}/in -")
    source = source_of(lab)
    while not (lab.folder / "in").exists():
        source.status()
    migrated(source, target, f"migrate -d blk unix:{lab.folder}/in")
    arrived(lab, source, target, confirmed=True)


def test_ssh_that_gets_no_answer_says_why(lab: Lab, sshd: Sshd) -> None:
    source = source_of(lab)
    source.quietly(f'migrate -d blk "exec:{sshd.client} nosuchcommand"')
    why = source.wait_migration("failed")
    assert "the command has ended with status 127: " in why
    assert "nosuchcommand" in why
    assert source.status() == "running"


def test_with_the_capability_return_path_nothing_goes_one_way(lab: Lab) -> None:
    source = source_of(lab)
    source.quietly("migrate_set_capability return-path on")
    for uri in (f"file:{lab.folder}/x", f"exec:cat > {lab.folder}/x"):
        source.quietly(f'migrate -d blk "{uri}"')
        assert "does not answer" in source.wait_migration("failed")
        assert source.status() == "running"


def test_one_way_through_a_fifo_the_destination_runs_and_the_source_does_not_know(lab: Lab) -> None:
    os.mkfifo(lab.folder / "fifo")
    target = target_of(lab, f"exec:cat {lab.folder}/fifo")
    source = source_of(lab)
    migrated(source, target, f'migrate -d blk "exec:cat > {lab.folder}/fifo"')
    arrived(lab, source, target, confirmed=False)


@pytest.mark.parametrize("is_human", [False, True])
def test_a_socket_passed_by_getfd_on_both_sides(lab: Lab, is_human: bool) -> None:
    ours, theirs = socket.socketpair()
    target = target_of(lab, "defer")
    source = source_of(lab)
    with ours, theirs, ExitStack() as stack:
        for qmon, end in ((source, ours), (target, theirs)):
            if is_human:
                assert qmon.monitor.command("getfd line", [end.fileno()]) == ""
                continue
            client = stack.enter_context(QmpClient(qmon.qmp_path))
            assert client.ask("getfd", descriptors=[end.fileno()], fdname="line") == {"return": {}}
    target.quietly("migrate_incoming fd:line")
    migrated(source, target, "migrate -d blk fd:line")
    arrived(lab, source, target, confirmed=True)


def test_a_pipe_passed_by_getfd_goes_one_way(lab: Lab) -> None:
    reading, writing = os.pipe()
    target = target_of(lab, "defer")
    source = source_of(lab)
    for qmon, end in ((source, writing), (target, reading)):
        with QmpClient(qmon.qmp_path) as client:
            assert client.ask("getfd", descriptors=[end], fdname="line") == {"return": {}}
        os.close(end)
    target.quietly("migrate_incoming fd:line")
    migrated(source, target, "migrate -d blk fd:line")
    arrived(lab, source, target, confirmed=False)


def test_inherited_descriptors(lab: Lab) -> None:
    os.mkfifo(lab.folder / "fifo")
    held = os.open(lab.folder / "fifo", os.O_RDWR)
    opening = f'exec 8{{}}{lab.folder}/fifo; exec "$@"'
    target = target_of(lab, "fd:8", ["sh", "-c", opening.format("<"), "sh"])
    source = source_of(lab, within=["sh", "-c", opening.format(">"), "sh"])
    os.close(held)
    migrated(source, target, "migrate -d blk fd:8")
    arrived(lab, source, target, confirmed=False)


def test_a_command_inherits_no_descriptor(lab: Lab) -> None:
    source = source_of(lab)
    source.export("d0")
    seen = lab.folder / "seen"
    source.quietly(f'migrate -d blk "exec:ls /proc/self/fd > {seen}; cat > /dev/null"')
    source.wait_migration("completed")
    assert len(seen.read_text().split()) <= 6  # three streams, ls's folder, and what the shell has saved


def test_the_bandwidth_limit_holds_and_a_stalled_command_is_cancelled(lab: Lab) -> None:
    source = source_of(lab)
    source.quietly('migrate -d blk "exec:sleep 1000 > /dev/null"')
    assert source.wait_migration("active", "setup")
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    assert source.status() == "running"


def test_shared_disks_go_over_a_command_too_and_another_disk_is_refused(lab: Lab) -> None:
    image = filled(lab.folder / "disk.img", SIZE)
    source = lab.start("source", *drive(image))
    source.quietly(f"migrate -d file:{lab.folder}/x")
    source.wait_migration("completed")
    other = filled(lab.folder / "other.img", SIZE, 2)
    wrong = lab.start("wrong", *drive(other), "-incoming", f"file:{lab.folder}/x")
    assert "drive 'd0' is not the same disk as at the source" in wrong.wait_migration("failed")
    right = lab.start("right", *drive(image), "-incoming", f"exec:cat {lab.folder}/x")
    right.wait_migration("completed")
    assert right.status() == "running"

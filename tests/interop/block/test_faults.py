"""Disks that fail while they are served or moved: who asked is told, and nothing else stops."""

from __future__ import annotations

import errno
import time
from typing import Any

import pytest

from qmon.nbd.constants import Command
from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.nbd_client import request
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import PATIENCE, eventually

SIZE = 4 * MIB


def pair(lab: Lab, *, bandwidth: str | None = None) -> tuple[Qmon, Qmon, str]:
    source, target, uri = lab.disk_pair(SIZE, bandwidth=bandwidth)
    return source, target, f"migrate -d blk {uri}"


def runs_on(source: Qmon) -> None:
    """The source serves its guests, with its data."""
    assert source.status() == "running"
    with source.guest() as guest:
        assert guest.read(0, SIZE) == noise(SIZE)
        guest.write(512, noise(SIZE)[512:1024])


def test_a_guest_gets_the_errno_and_its_other_requests_go_on(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.export("d0")
    with source.guest() as guest:
        guest.write(0, noise(512, 2))
        read = source.fault("read", offset=8192, length=512, error="EIO")
        source.fault("write", offset=MIB, error="ENOSPC", count=1)
        source.fault("flush", error="EIO", after=1, count=1)
        assert refusal(lambda: guest.read(4096, 8192)) == errno.EIO
        assert guest.read(8704, 512) == noise(SIZE)[8704:9216]
        assert guest.read(0, 512) == noise(512, 2)
        assert refusal(lambda: guest.write(2 * MIB, bytes(512))) == errno.ENOSPC
        assert guest.read(2 * MIB, 512) == noise(SIZE)[2 * MIB :][:512]
        guest.write(2 * MIB, bytes(512))
        assert [refusal(guest.flush) for _ in range(3)] == [0, errno.EIO, 0]
        assert source.qmp("x-qmon-fault-del", id=read) == {}
        assert guest.read(8192, 512) == noise(SIZE)[8192:8704]
    assert [(each["operation"], each["hits"]) for each in source.qmp("x-qmon-query-faults")] == [
        ("write", 1),
        ("flush", 1),
    ]


def refusal(request: Any) -> int:
    """The errno with which a guest's request failed, 0 when it did not."""
    try:
        request()
    except OSError as error:
        return error.errno or -1
    return 0


def test_a_delayed_request_comes_late_and_not_for_ever(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.export("d0")
    with source.guest() as guest:
        source.fault("read", offset=0, length=512, delay=300)
        begun = time.monotonic()
        assert guest.read(0, 512) == noise(512)
        assert time.monotonic() - begun >= 0.3


def test_a_delayed_request_holds_up_no_other(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.export("d0")
    with source.guest() as slow, source.guest() as quick:
        rule = source.fault("read", offset=0, length=512, delay=600_000)
        slow.client.send(request(Command.READ, 0, 512))
        eventually(lambda: source.qmp("x-qmon-query-faults")[0]["hits"], "it is delayed")
        assert quick.read(512, 512) == noise(1024)[512:]
        source.qmp("x-qmon-fault-del", id=rule)
        assert slow.client.reply(512).data == noise(512)


def test_a_request_that_waits_does_not_keep_the_process_from_ending(lab: Lab) -> None:
    source = lab.start("source", *drive(filled(lab.folder / "source.img", SIZE)))
    source.export("d0")
    with source.guest() as guest:
        source.fault("flush", delay=600_000)
        guest.client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            guest.flush()
        begun = time.monotonic()
        source.close()
        assert time.monotonic() - begun < PATIENCE


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ({"drive": "d9", "operation": "read", "error": "EIO"}, "Cannot find device='d9' nor node-name='d9'"),
        (
            {"drive": "d0", "operation": "eat", "error": "EIO"},
            "Parameter 'operation' does not accept value 'eat'",
        ),
        ({"drive": "d0", "operation": "read"}, "A fault needs 'error' or 'delay'"),
        (
            {"drive": "d0", "operation": "read", "error": "OOPS"},
            "Parameter 'error' expects the name of an errno, such as EIO, not 'OOPS'",
        ),
        (
            {"drive": "d0", "operation": "read", "error": "EIO", "offset": -1},
            "Parameter 'offset' expects a non-negative number",
        ),
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(lab: Lab, arguments: dict[str, Any], why: str) -> None:
    source = lab.start("source", *drive(blank(lab.folder / "source.img", SIZE)))
    assert source.qmp_error("x-qmon-fault-add", **arguments) == why
    assert source.qmp_error("x-qmon-fault-del", id="fault7") == "Fault 'fault7' not found"
    assert source.qmp("x-qmon-query-faults") == []


def test_a_read_error_at_the_source_ends_the_migration_and_not_the_source(lab: Lab) -> None:
    source, target, line = pair(lab)
    broken = source.fault("read", offset=3 * MIB + 512, length=512, error="EIO")
    source.quietly(line)
    status = source.wait_migration("failed")
    assert status.count("\n") == 0
    said = status.removeprefix("failed (drive 'd0': read of ").removesuffix(" failed: Input/output error)")
    count, _, offset = said.partition(" bytes at ")
    assert int(offset) <= 3 * MIB + 512 < int(offset) + int(count)
    assert target.wait_migration("failed").endswith("; the images here are partial)")
    source.qmp("x-qmon-fault-del", id=broken)
    runs_on(source)
    migrated(source, target, line)
    assert same(lab.folder / "source.img", lab.folder / "target.img")


@pytest.mark.parametrize(
    ("operation", "where", "error", "why"),
    [
        ("write", {"offset": 2 * MIB, "length": 512}, "ENOSPC", "No space left on device"),
        ("write", {"offset": 2 * MIB, "length": 512}, "EIO", "Input/output error"),
        ("flush", {}, "EIO", "Input/output error"),
        ("flush", {"after": 1}, "ENOSPC", "No space left on device"),
    ],
    ids=["full", "write error", "first flush", "flush at the switchover"],
)
def test_an_error_at_the_destination_is_said_on_both_sides_and_the_next_attempt_works(
    lab: Lab, operation: str, where: dict[str, int], error: str, why: str
) -> None:
    source, target, line = pair(lab)
    broken = target.fault(operation, error=error, **where)
    source.quietly(line)
    told = source.wait_migration("failed")
    said = target.wait_migration("failed")
    for each in (told, said):
        if operation == "flush":
            assert f"drive 'd0': flush failed at the destination: {why}" in each
        else:
            head, _, _ = each.partition(f" failed at the destination: {why}")
            count, _, offset = head.partition("drive 'd0': write of ")[2].partition(" bytes at ")
            assert int(offset) <= 2 * MIB < int(offset) + int(count)
    assert said.endswith("; the images here are partial)")
    target.wait_log(said.removeprefix("failed (").removesuffix(")"))
    runs_on(source)
    assert target.status() == "paused (inmigrate)"
    target.qmp("x-qmon-fault-del", id=broken)
    migrated(source, target, line)
    assert same(lab.folder / "source.img", lab.folder / "target.img")
    with target.guest() as guest:
        guest.write(0, noise(512, 4))
        assert guest.read(0, 512) == noise(512, 4)


def test_a_zero_that_can_not_be_written_at_the_destination_is_said_too(lab: Lab) -> None:
    image, old = blank(lab.folder / "source.img", SIZE), filled(lab.folder / "target.img", SIZE, 2)
    source, target, uri = lab.pair(drive(image), drive(old))
    broken = target.fault("zero", error="EIO")
    source.quietly(f"migrate -d blk {uri}")
    assert "failed at the destination: Input/output error" in source.wait_migration("failed")
    target.qmp("x-qmon-fault-del", id=broken)
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(image, old)


def test_rules_hold_when_the_image_is_closed_and_opened_again(lab: Lab) -> None:
    source, target, line = pair(lab)
    target.fault("read", offset=MIB, length=512, error="EIO")
    migrated(source, target, line)
    with target.guest() as guest:
        assert refusal(lambda: guest.read(MIB, 512)) == errno.EIO
        assert guest.read(0, 512) == noise(512)


def test_during_a_migration_rules_change_only_where_the_filter_is_in_place(lab: Lab) -> None:
    source, target, line = pair(lab, bandwidth="100k")
    harmless = source.fault("write", delay=1, count=1)
    source.quietly(line)
    target.wait_migration("active")
    refused = target.qmp_error("x-qmon-fault-add", drive="d0", operation="write", error="EIO")
    assert refused == "Node 'd0' is busy: block device is in use by migration"
    assert source.qmp("x-qmon-fault-del", id=harmless) == {}
    source.fault("read", offset=SIZE - 512, error="EIO")
    source.quietly("migrate_set_parameter max-bandwidth 100M")
    assert "failed: Input/output error" in source.wait_migration("failed")
    assert source.status() == "running"


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_slow_disk_makes_a_migration_slow_and_nothing_else(lab: Lab, side: str) -> None:
    source, target, line = pair(lab)
    slow, operation = (source, "read") if side == "source" else (target, "write")
    with source.guest() as guest:
        late = slow.fault(operation, offset=MIB, length=512, delay=60_000)
        source.quietly(line)
        eventually(lambda: slow.qmp("x-qmon-query-faults")[0]["hits"], "the disk is slow")
        # The source reads its disk before it makes an offer, too.
        assert (source.migration(), target.migration()) in (("active", "active"), ("setup", "none"))
        guest.write(0, noise(512, 5))
        assert guest.read(0, 512) == noise(512, 5)
    slow.qmp("x-qmon-fault-del", id=late)
    source.wait_migration("completed")
    eventually(lambda: target.status() == "running", "the destination runs")
    assert (lab.folder / "target.img").read_bytes() == noise(512, 5) + noise(SIZE)[512:]

"""With the capability multifd the data of disks goes through several connections, compressed or not."""

from __future__ import annotations

import pytest

from tests.support.images import MIB, blank, drive, filled, noise, same
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import eventually

SIZE = 70 * MIB + 512


def multifd(*machines: Qmon, channels: int = 3, packing: str = "none") -> None:
    for each in machines:
        each.quietly(
            "migrate_set_capability multifd on",
            f"migrate_set_parameter multifd-channels {channels}",
            f"migrate_set_parameter multifd-compression {packing}",
        )


@pytest.mark.parametrize(
    ("packing", "channels"), [("none", 1), ("none", 4), ("zlib", 2), ("zstd", 3), ("none", 40)]
)
def test_disks_arrive_by_channels(lab: Lab, packing: str, channels: int) -> None:
    if packing == "zstd":
        pytest.importorskip("zstandard")
    image = filled(lab.folder / "a", SIZE)
    with image.open("r+b") as file:  # something that compresses, and zeros across the areas
        file.seek(3 * MIB)
        file.write(b"abc" * MIB + bytes(30 * MIB))
    other = filled(lab.folder / "c", 5 * MIB, 2)
    targets = blank(lab.folder / "b", SIZE), filled(lab.folder / "d", 5 * MIB, 9)
    source, target, uri = lab.pair(
        [*drive(image), *drive(other, "d1")], [*drive(targets[0]), *drive(targets[1], "d1")]
    )
    multifd(source, target, channels=channels, packing=packing)
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(image, targets[0])
    assert same(other, targets[1])
    moved = int(source.figures()["multifd bytes"].removesuffix(" kbytes")) << 10
    assert moved < 46 * MIB
    assert (moved < 43 * MIB) is (packing != "none")


def test_a_guest_that_writes_meanwhile_loses_nothing(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(40 * MIB, bandwidth="1M")
    multifd(source, target, packing="zlib")
    source.quietly(f"migrate -d blk {uri}")
    written = {}
    with source.guest() as guest:
        eventually(lambda: source.migration() == "active", "the copy has begun")
        for number in range(60):
            offset = number * 7919 % 639 * 65536
            written[offset] = noise(65536, 100 + number)
            guest.write(offset, written[offset])
        assert source.migration() == "active"
    source.quietly("migrate_set_parameter max-bandwidth 0")
    source.wait_migration("completed")
    target.wait_status("running")
    with target.guest() as guest:
        for offset, data in written.items():
            assert guest.read(offset, len(data)) == data


def test_one_side_alone_is_refused(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(MIB)
    for here, there, side in ((source, target, "source"), (target, source, "destination")):
        here.quietly("migrate_set_capability multifd on")
        there.quietly("migrate_set_capability multifd off")
        source.quietly(f"migrate -d blk {uri}")
        assert f"multifd is on at the {side}" in source.wait_migration("failed")
        target.wait_log(f"multifd is on at the {side}")
        assert source.status() == "running"


def test_what_can_t_have_channels_is_refused(lab: Lab) -> None:
    source, _, uri = lab.disk_pair(MIB)
    multifd(source)
    for place in ("exec:cat", "fd:7", f"file:{lab.folder}/x"):
        assert "Migration requires multi-channel URIs (e.g. tcp)" in source.command(
            f'migrate -d blk "{place}"'
        )
    source.quietly("migrate_set_capability x-qmon-recover on")
    assert "multifd is not possible with x-qmon-recover" in source.command(f"migrate -d blk {uri}")
    assert source.status() == "running"


def test_a_cancel_ends_all_channels_and_another_migration_succeeds(lab: Lab) -> None:
    source, target, uri = lab.disk_pair(20 * MIB, bandwidth="256k")
    multifd(source, target)
    source.quietly(f"migrate -d blk {uri}")
    eventually(lambda: source.migration() == "active", "the copy has begun")
    source.quietly("migrate_cancel")
    source.wait_migration("cancelled")
    target.wait_migration("failed")
    source.quietly("migrate_set_parameter max-bandwidth 0")
    migrated(source, target, f"migrate -d blk {uri}")
    assert same(lab.folder / "source.img", lab.folder / "target.img")

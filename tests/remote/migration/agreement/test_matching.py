"""Which drives go together, and what is refused before anything changes."""

from __future__ import annotations

from dataclasses import replace

import pytest

from qmon.remote.migration.agreement.inventory import Disk, Inventory
from qmon.remote.migration.agreement.matching import Plan, match
from qmon.remote.migration.agreement.sides import BOTH, SOURCE
from tests.support.inventories import ON, SIZE, disk, side


def empty(drive_id: str) -> Disk:
    return disk(drive_id, node="", size=0, removable=True, format="", file="")


def plan(ours: list[Disk], theirs: list[Disk], *, inc: bool = False) -> Plan:
    return match(side(*ours), side(*theirs, status="inmigrate"), inc=inc)


def pairs(found: Plan) -> list[tuple[str, str, str]]:
    return [(each.source.name, each.destination.name, each.by) for each in found.pairs]


def refused(source: Inventory, destination: Inventory, *, inc: bool = False) -> tuple[str, ...]:
    return match(source, destination, inc=inc).refusals


def test_drives_are_matched_by_the_device_id_before_the_drive_id() -> None:
    found = plan([disk("a", "one"), disk("b", "two")], [disk("a", "two"), disk("b", "one")])
    assert pairs(found) == [("a", "b", "device id"), ("b", "a", "device id")]
    assert found.refusals == ()


def test_drives_are_matched_by_the_drive_id_where_one_side_has_no_device_id() -> None:
    found = plan([disk("a", "one"), disk("b")], [disk("b"), disk("a")])
    assert pairs(found) == [("a", "a", "drive id"), ("b", "b", "drive id")]


def test_drives_without_a_common_kind_of_id_are_matched_by_order_with_a_warning() -> None:
    found = plan([disk("virtio0"), disk("virtio1")], [disk("", node="n0"), disk("", node="n1")])
    assert pairs(found) == [("virtio0", "n0", "order"), ("virtio1", "n1", "order")]
    assert found.refusals == ()
    assert found.warnings[0] == (
        "drive 'virtio0' goes to the destination's 'n0' by their order: they have no id in common"
    )


def test_the_only_drives_of_both_sides_go_together_whatever_their_names() -> None:
    assert pairs(plan([disk("d0", "x")], [disk("root", "y")])) == [("d0", "root", "order")]


def test_drives_with_other_ids_are_never_matched_by_order() -> None:
    found = plan([disk("root"), disk("data")], [disk("data2"), disk("root2")])
    assert found.pairs == ()
    assert len(found.refusals) == 4
    assert found.refusals[0] == (
        "drive 'root' (1073741824 bytes) has no counterpart at the destination, which has"
        " 'data2' (1073741824 bytes), 'root2' (1073741824 bytes): give the destination's the same id"
    )


def test_drives_of_other_sizes_are_refused_with_both_sizes() -> None:
    assert plan([disk("a")], [disk("a", size=SIZE - 512)]).refusals == (
        "drive 'a' has 1073741824 bytes at the source and 1073741312 bytes at the destination: make the"
        " destination's image again with 1073741824 bytes",
    )


def test_a_drive_that_the_destination_lacks_is_named_with_its_size() -> None:
    assert plan([disk("a"), disk("b")], [disk("a")]).refusals == (
        "drive 'b' (1073741824 bytes) has no counterpart at the destination, which has no other drive that"
        " can be written: start the destination with one of this size",
    )


def test_a_cd_rom_stays_behind_whichever_side_has_it() -> None:
    cd = disk("cd", read_only=True, removable=True, size=2048)
    both, ours, theirs = (
        plan([disk("a"), *here], [disk("a"), *there])
        for here, there in (([cd], [empty("cd")]), ([cd], []), ([], [cd]))
    )
    assert both.left_behind == (
        "drive 'cd' is read-only with 2048 bytes: it is not copied; at the destination it is empty",
    )
    assert ours.left_behind == (
        "drive 'cd' is read-only: it is not copied, and the destination has no such drive",
    )
    assert theirs.left_behind == ("drive 'cd' of the destination is read-only: the source has no such drive",)
    assert not both.refusals + ours.refusals + theirs.refusals


def test_a_read_only_disk_is_not_matched_with_an_empty_cd_rom_drive_by_order() -> None:
    ours, theirs = disk("seed", read_only=True), empty("")
    found = plan([disk("a"), ours, empty("cd")], [disk("a"), replace(theirs, path="/machine/x")])
    assert len(found.refusals) == 1
    assert found.refusals[0].startswith(
        "drive 'seed' is read-only and is not copied, and the destination has"
    )
    assert found.empty == ("cd",)
    assert not any("'cd'" in line for line in found.left_behind)


def test_a_drive_that_is_empty_on_both_sides_is_named_alone_also_without_a_device() -> None:
    slot = replace(empty("sd0"), path="")
    found = plan([disk("a"), empty("cd"), slot], [disk("a"), empty("cd"), slot])
    assert (found.empty, found.left_behind) == (("cd", "sd0"), ())


def test_a_read_only_disk_must_be_there_with_the_same_size() -> None:
    ours = disk("seed", read_only=True)
    assert plan([ours], [disk("seed", read_only=True, size=512)]).refusals == (
        "drive 'seed' is read-only, and has 1073741824 bytes at the source and 512 bytes at the destination:"
        " start the destination with a copy of it",
    )
    assert plan([ours], []).refusals == (
        "drive 'seed' is read-only and is not copied, and the destination has no such drive: start the"
        " destination with a copy of it",
    )


def test_a_drive_that_is_writable_on_one_side_only_is_refused() -> None:
    assert plan([disk("a")], [disk("a", read_only=True)]).refusals == (
        "drive 'a' is writable at the source; at the destination it is read-only",
    )


def test_a_copy_onto_a_disk_of_the_source_is_refused() -> None:
    san = disk("a", identities=("naa.5000",))
    assert plan([san], [san]).refusals == (
        "the destination's drive 'a' is the disk of the source's drive 'a' (naa.5000): give the destination a"
        " disk of its own",
    )
    cd = disk("cd", read_only=True, removable=True, identities=("naa.5000",))
    assert "is the disk of the source's drive 'cd'" in plan([disk("a"), cd], [san]).refusals[0]
    overlay = disk("a", backing="base", backing_identities=("naa.5000",))
    assert "is the backing image of the source's drive 'a'" in plan([overlay], [san]).refusals[0]
    assert plan([overlay], [overlay], inc=True).refusals == ()


def test_what_an_image_holds_besides_its_contents_stays_behind() -> None:
    found = plan([disk("a", bitmaps=("b0",), snapshots=("monday",))], [disk("a")])
    assert found.left_behind == (
        "bitmap 'b0' of drive 'a' is not copied",
        "internal snapshot 'monday' of drive 'a' is not copied",
    )


def test_other_devices_of_the_guest_are_refused() -> None:
    assert plan([disk("a")], [disk("a", device_type="scsi-hd")]).refusals == (
        "drive 'a' is a virtio-blk-device at the source and a scsi-hd at the destination: start the"
        " destination with the same devices",
    )


def test_a_disk_outside_qemu_stays_behind() -> None:
    found = match(side(disk("a"), outside=("u0 (vhost-user-blk-pci)",)), side(disk("a")), inc=False)
    assert found.left_behind[0].startswith("device u0 (vhost-user-blk-pci) has its disk outside QEMU")


def test_capabilities_that_are_switched_off_are_told() -> None:
    on = {**side().capabilities, "multifd": True}
    found = match(side(disk("a"), capabilities=on), side(disk("a"), status="inmigrate"), inc=False)
    assert found.refusals == ()
    assert found.warnings == (
        "migration capability multifd is off while the guest moves: the memory goes through one connection",
    )


def test_tls_at_the_destination_alone_is_refused() -> None:
    tls = {"tls-creds": "tls0"}
    source, destination = side(disk("a")), side(disk("a"), status="inmigrate", parameters=tls)
    (line,) = refused(source, destination)
    assert line.startswith("destination: migration parameter tls-creds is 'tls0', and the source has none")
    assert refused(replace(source, parameters=tls), destination) == ()


def test_an_incremental_copy_of_an_overlay_needs_one_at_the_destination() -> None:
    overlay = disk("a", backing="base.img", file="top.qcow2")
    assert plan([overlay], [overlay], inc=True).refusals == ()
    assert "'qemu-img create -f qcow2 -b" in plan([overlay], [disk("a")], inc=True).refusals[0]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"status": "paused"}, "the guest is paused: resume it with 'cont'"),
        ({"status": "postmigrate", "migration": "completed"}, "the guest has moved away"),
        ({"migration": "active"}, "a migration is under way (active)"),
        ({"jobs": ("j0 (backup)",)}, "job j0 (backup) has not ended"),
        ({"exports": ("e0 of n0",)}, "export e0 of n0 is in use by others"),
        (
            {"commands": BOTH | SOURCE - {"blockdev-mirror"}},
            "this QEMU (10.0.2) has no command blockdev",
        ),
        ({"disks": (disk("a", io_status="nospace"),)}, "drive 'a' has had an I/O error (nospace)"),
        ({"machine": "q35"}, "the guest's machine is q35, which the destination's QEMU 10.0.2 does not have"),
        ({"machine": "pc-i440fx-7.2"}, "the guest's machine is pc-i440fx-7.2, and the destination's is pc-"),
        ({"memory": 1 << 31}, "the guest has 2 GiB of memory, and the destination 1 GiB: start the destina"),
        ({"parameters": {"mode": "cpr-reboot"}}, "migration parameter mode is 'cpr-reboot'"),
        ({"capabilities": {**ON, "x-colo": True}}, "migration capability x-colo is on: it keeps two"),
        (
            {"capabilities": {"return-path": False}},
            "this QEMU (10.0.2) has no migration capability even",
        ),
        (
            {"capabilities": {**ON, "validate-uuid": True}, "uuid": "1-2"},
            "the guest's UUID is 1-2, and the d",
        ),
        ({"blockers": ("non-migratable device: nvme",)}, "QEMU can't move the guest: non-migratable"),
        (
            {"disks": (disk("a", device_type="scsi-block"),)},
            "drive 'a' is a scsi-block: QEMU does not",
        ),
        ({"cpus": 4}, "the guest has 4 CPUs, and the destination 2: start the destination with -smp 4"),
    ],
)
def test_what_is_wrong_with_the_source_is_said(change: dict[str, object], said: str) -> None:
    good, destination = side(disk("a")), side(disk("a"), status="inmigrate")
    assert refused(good, destination) == ()
    line, *_ = refused(replace(good, **change), destination)  # type: ignore[arg-type]  # as in side()
    assert line.startswith(said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"status": "running"},
            "destination: its QEMU does not wait for a migration (its state is 'running')",
        ),
        (
            {"is_listening": True},
            "destination: its QEMU itself waits for a migration at an address: start it",
        ),
        (
            {"migration": "setup"},
            "destination: its QEMU itself waits for a migration at an address: start it",
        ),
        (
            {"migration": "failed"},
            "destination: its QEMU has begun to take a migration (failed), and takes one",
        ),
    ],
)
def test_a_destination_must_wait_for_a_migration(change: dict[str, object], said: str) -> None:
    destination = side(disk("a"), status="inmigrate")
    (line,) = refused(side(disk("a")), replace(destination, **change))  # type: ignore[arg-type]  # as in side()
    assert line.startswith(said)


def test_all_that_is_wrong_is_told_at_once_and_cleaned() -> None:
    lines = refused(side(disk("a\x1b[2J"), status="paused"), side(disk("b"), disk("c")))
    assert len(lines) == 5
    assert not any("\x1b" in line for line in lines)

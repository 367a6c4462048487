"""What a side of a migration between QEMUs may have, for tests of what fits."""

from __future__ import annotations

from dataclasses import replace

from qmon.remote.migration.agreement.inventory import Disk, Inventory
from qmon.remote.migration.agreement.sides import BOTH, DESTINATION, SOURCE

SIZE = 1 << 30
ON = {"return-path": False, "pause-before-switchover": False, "events": False}


def disk(drive_id: str = "", device_id: str = "", **others: object) -> Disk:
    plain = Disk(
        node="#block1",
        drive_id=drive_id,
        device_id=device_id,
        path="/machine/peripheral-anon/device[0]",
        device_type="virtio-blk-device",
        size=SIZE,
        read_only=False,
        removable=False,
        format="raw",
        file="disk.img",
        backing="",
        backing_format="",
        io_status="ok",
        is_encrypted=False,
    )
    return replace(plain, **others)  # type: ignore[arg-type]  # the keywords are the dataclass's


def side(*disks: Disk, **others: object) -> Inventory:
    plain = Inventory(
        version=(10, 0, 2),
        status="running",
        machine="pc-i440fx-10.0",
        memory=1 << 30,
        cpus=2,
        disks=disks,
        capabilities=ON,
        commands=BOTH | SOURCE | DESTINATION,
        machines=frozenset(("pc-i440fx-10.0", "pc-i440fx-7.2")),
    )
    return replace(plain, **others)  # type: ignore[arg-type]  # the keywords are the dataclass's

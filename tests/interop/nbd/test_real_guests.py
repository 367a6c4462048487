"""Real QEMUs boot from a qmon's exports, and every number that their guests acknowledged is on the disk."""

from __future__ import annotations

import contextlib
from pathlib import Path

import pytest

from tests.support.nbd_house import House
from tests.support.peers import require
from tests.support.vms.machine import Version
from tests.support.vms.on_export import GuestOnExport


@pytest.mark.parametrize("version", Version, ids=lambda version: version.value)
def test_a_guest_counts_on_its_disk(house: House, tmp_path: Path, version: Version) -> None:
    require(version.program[0])
    disk = house.disk(GuestOnExport.fill(tmp_path / "filled").read_bytes())
    server = f"{house.server_options()},export={disk.name}"
    guest = GuestOnExport(tmp_path, version, server, house.qemu_objects())
    with contextlib.closing(guest.machine):
        guest.machine.wait_to_count()
        assert guest.wrong(disk.image) == []

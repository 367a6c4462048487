"""A guest is moved whole between QEMUs by two consoles: a sample of the kinds in ``matrix``.

``make qemu-matrix`` moves every kind 20 times.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.interop.remote.migration.matrix import NEW, OLD
from tests.support.vms.disks import QCOW2, RAW
from tests.support.vms.machine import Style
from tests.support.vms.moving import move
from tests.support.vms.pair import Pair, Setup

SAMPLE = [
    Setup(NEW, NEW, style=Style.VIRTIO),
    Setup(NEW, NEW, style=Style.BLOCKDEV, format=QCOW2, inc=True, disks=2, cdroms=True),
    Setup(NEW, NEW, style=Style.SCSI, format=QCOW2, disks=2, cdroms=True),
    Setup(OLD, NEW, style=Style.IDE, disks=2, cdroms=True),
    Setup(OLD, NEW, style=Style.VIRTIO, destination_style=Style.BLOCKDEV, destination_format=QCOW2),
    Setup(OLD, NEW, style=Style.SCSI, disks=2, by_tcp=True),
    Setup(OLD, OLD, style=Style.IF_VIRTIO, format=QCOW2, inc=True, disks=2, cdroms=True),
    Setup(OLD, OLD, style=Style.BLOCKDEV_SCSI, format=RAW, disks=2, cdroms=True),
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("setup", SAMPLE, ids=str)
def test_the_guest_counts_on_at_the_destination_and_nothing_is_left(setup: Setup, tmp_path: Path) -> None:
    with Pair(tmp_path / "pair", setup) as pair:
        assert move(pair, detached=setup.disks == 2) == []

"""An overlay that is taken off again leaves the disk open as it was."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from qmon.block.qcow2.create import create_overlay
from qmon.block.qcow2.node import LOCKS
from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from tests.support.locks_probe import locked_bytes

SIZE = 1 << 20


@pytest.mark.parametrize("is_shared", [False, True])
def test_its_image_is_shared_with_others_as_before(tmp_path: Path, is_shared: bool) -> None:
    (tmp_path / "base").write_bytes(bytes(SIZE))
    image, over = tmp_path / "disk.qcow2", tmp_path / "over.qcow2"
    create_overlay(str(image), SIZE, "base", "raw", LOCKS)
    names = itertools.count()
    settings = DriveOptions("d0", str(image), "qcow2", "none", False, is_shared=is_shared)
    drive = Drive(settings, lambda: f"n{next(names)}")
    drive.activate()
    before, nodes = locked_bytes(image), drive.names.pairs
    take_off = drive.put_overlay(str(over), create=True, name="above")
    assert drive.names.pairs == [("above", "n4"), *nodes]
    take_off()
    assert not over.exists()
    assert (locked_bytes(image), drive.names.pairs, drive.settings) == (before, nodes, settings)
    drive.node.write(0, b"x" * 512)
    drive.close()

"""A disk is handed over only with all that was written to it."""

from __future__ import annotations

import errno
import itertools
from pathlib import Path

import pytest

from qmon.block import image_file
from qmon.block.file import FileNode
from qmon.block.node import Buffer
from qmon.block.qcow2.create import create_overlay
from qmon.block.qcow2.node import LOCKS
from qmon.machine.drive import Drive
from qmon.notation.drive_options import DriveOptions
from tests.support.locks_probe import locked_bytes

SIZE = 1 << 20


class FullFile(FileNode):
    """A file on a file system that is full for as long as ``is_full`` says so."""

    is_full = False

    def write(self, offset: int, data: Buffer) -> None:
        if FullFile.is_full:
            raise OSError(errno.ENOSPC, "No space left on device")
        super().write(offset, data)


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Drive:
    monkeypatch.setattr(image_file, "FileNode", FullFile)
    monkeypatch.setattr(FullFile, "is_full", False)
    (tmp_path / "base").write_bytes(bytes(SIZE))
    image = tmp_path / "disk.qcow2"
    create_overlay(str(image), SIZE, "base", "raw", LOCKS)
    names = itertools.count()
    drive = Drive(DriveOptions("d0", str(image), "qcow2", "none", False), lambda: f"n{next(names)}")
    drive.activate()
    return drive


def first_bytes(drive: Drive) -> bytes:
    buffer = bytearray(512)
    drive.node.read_into(0, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("flush", [True, False])
def test_a_disk_whose_tables_can_not_be_written_is_kept(drive: Drive, flush: bool) -> None:
    """Closed, it would lose them, and the side that opens it next would not see what was written."""
    drive.node.write(0, b"x" * 512)
    FullFile.is_full = True
    with pytest.raises(OSError, match="No space left"):
        drive.deactivate(flush=flush)
    assert drive.is_active
    assert locked_bytes(Path(drive.image)) == {100, 101, 103, 201, 203}
    assert first_bytes(drive) == b"x" * 512
    FullFile.is_full = False
    drive.deactivate(flush=flush)
    drive.activate()
    assert first_bytes(drive) == b"x" * 512
    drive.close()


def test_a_disk_that_nobody_wants_is_given_up_whatever_fails(drive: Drive) -> None:
    drive.node.write(0, b"x" * 512)
    FullFile.is_full = True
    drive.abandon()
    assert not drive.is_active
    assert locked_bytes(Path(drive.image)) == set()

"""A disk whose format was guessed stays what it was guessed to be."""

from __future__ import annotations

import errno

import pytest

from qmon.block.guessed import GuessedRawFilter
from qmon.block.probe import format_of
from tests.support.memory import MemoryNode


@pytest.mark.parametrize(
    ("head", "found"),
    [
        (b"", "raw"),
        (bytes(512), "raw"),
        (b"QFI\xfb\0\0\0\3", "qcow2"),
        (b"QFI\xfb\0\0\0\1", "qcow"),
        (b"KDMV", "vmdk"),
        (bytes(64) + b"\x7f\x10\xda\xbe", "vdi"),
        (b"LUKS\xba\xbe", "luks"),
        (b"vhdxfil", "raw"),
    ],
)
def test_formats_are_told_by_their_magic(head: bytes, found: str) -> None:
    assert format_of(head) == found


def test_a_write_that_makes_another_format_of_it_is_refused() -> None:
    memory = MemoryNode(4096)
    disk = GuessedRawFilter(memory)
    disk.write(0, b"QFI" + bytes(509))
    for offset, data in [(3, b"\xfb"), (0, b"QFI\xfb" + bytes(4092)), (2, b"I\xfb")]:
        with pytest.raises(OSError, match="can't write a qcow2 header") as caught:
            disk.write(offset, data)
        assert caught.value.errno == errno.EPERM
    assert memory.data == b"QFI" + bytes(4093)
    disk.write(512, b"QFI\xfb")
    disk.write(0, b"x" * 512)
    assert memory.data == b"x" * 512 + b"QFI\xfb" + bytes(3580)

"""Reads of a disk with holes: the holes are told, and the bytes are right."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.block.faults import FaultFilter, Faults, Operation, Rule
from qmon.nbd.constants import Command, CommandFlag, Error, ReplyType
from qmon.nbd.limits import LARGE_PIECE, SMALL_PIECE
from tests.support.nbd_client import Reply
from tests.support.nbd_served import RawDisk
from tests.support.nbd_transmission import connected

MIB = 1 << 20
DATA, HOLE = int(ReplyType.OFFSET_DATA), int(ReplyType.OFFSET_HOLE)
CONTENT = os.urandom(MIB) + bytes(MIB) + b"x" * 3500 + bytes(2 * MIB - 3500)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[RawDisk]:
    """4 MiB: data, a hole, data, a hole."""
    path = tmp_path / "disk.img"
    with path.open("wb") as file:
        file.truncate(4 * MIB)
        os.pwrite(file.fileno(), CONTENT[:MIB], 0)
        os.pwrite(file.fileno(), b"x" * 3500, 2 * MIB)
    disk = RawDisk(path)
    yield disk
    disk.node.close()


def parts(reply: Reply) -> list[tuple[int, int, int]]:
    """Type, offset and length of the chunks; neighbours of one type as one."""
    found: list[tuple[int, int, int]] = []
    for chunk in reply.chunks:
        offset = int.from_bytes(chunk.payload[:8])
        length = int.from_bytes(chunk.payload[8:]) if chunk.kind == HOLE else len(chunk.payload) - 8
        if found and found[-1][0] == chunk.kind:
            offset, length = found[-1][1], found.pop()[2] + length
        found.append((chunk.kind, offset, length))
    return found


@pytest.mark.parametrize("piece", [LARGE_PIECE, SMALL_PIECE], ids=["large", "small"])
@pytest.mark.parametrize("extended", [False, True], ids=["structured", "extended"])
def test_holes_are_told_and_data_is_sent(disk: RawDisk, extended: bool, piece: int) -> None:
    with connected(disk, structured=True, extended=extended, piece=piece) as client:
        told = client.ask(Command.READ, 4096, 4 * MIB - 4096)
        assert told.data == CONTENT[4096:]
        assert parts(told) == [
            (DATA, 4096, MIB - 4096),
            (HOLE, MIB, MIB),
            (DATA, 2 * MIB, 4096),
            (HOLE, 2 * MIB + 4096, 2 * MIB - 4096),
        ]
        told = client.ask(Command.READ, 3 * MIB, 40000)
        assert (told.data, parts(told)) == (bytes(40000), [(HOLE, 3 * MIB, 40000)])


def test_a_read_that_may_not_be_divided_is_sent_as_data(disk: RawDisk) -> None:
    with connected(disk, structured=True) as client:
        told = client.ask(Command.READ, MIB - 512, 40000, flags=CommandFlag.DF)
        assert told.data == CONTENT[MIB - 512 :][:40000]
        assert parts(told) == [(DATA, MIB - 512, 40000)]


def test_a_fault_meets_reads_of_holes_too(disk: RawDisk) -> None:
    faults = Faults()
    disk.node = FaultFilter(disk.node, faults)
    with connected(disk, structured=True) as client:
        faults.add("bad", Rule(Operation.READ, errno=errno.EIO))
        assert client.ask(Command.READ, 3 * MIB, 40000).error == Error.EIO
        faults.clear()
        assert parts(client.ask(Command.READ, 3 * MIB, 40000)) == [(HOLE, 3 * MIB, 40000)]


def test_a_disk_of_many_small_holes_is_sent_in_a_few_chunks(disk: RawDisk) -> None:
    for offset in range(MIB, 2 * MIB, 8192):
        disk.node.write(offset, b"y" * 4096)
    wanted = (b"y" * 4096 + bytes(4096)) * 128
    with connected(disk, structured=True) as client:
        told = client.ask(Command.READ, MIB, MIB)
        assert told.data == wanted
        assert len(told.chunks) <= 16

"""A large sparse image moves in little memory: what grows with the disk stays small, whatever it holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import KIB, MIB, blank, drive, noise
from tests.support.processes import Lab, Qmon, migrated
from tests.support.waiting import PATIENCE

SIZE = 64 << 30
HELD = 64 * MIB
MOST = 100 * MIB


def sparse(path: Path, piece: int, seed: int) -> Path:
    """An image of SIZE bytes that holds HELD bytes of noise, in pieces spread over all of it."""
    count = HELD // piece
    data = noise(MIB, seed)
    with blank(path, SIZE).open("r+b", buffering=0) as file:
        for number in range(count):
            file.seek(number * (SIZE // count) + (seed - 1) * piece)
            for _ in range(max(1, piece // MIB)):
                file.write(data[: min(piece, MIB)])
    return path


def data_of(path: Path) -> Iterator[tuple[int, bytes]]:
    """What an image holds besides zeros, as (offset, bytes) in steps of 4 KiB."""
    with path.open("rb", buffering=0) as file:
        position = 0
        while True:
            try:
                position = os.lseek(file.fileno(), position, os.SEEK_DATA)
            except OSError:
                return  # ENXIO: no data behind here
            end = os.lseek(file.fileno(), position, os.SEEK_HOLE)
            for offset in range(position, end, 4 * KIB):
                piece = os.pread(file.fileno(), min(4 * KIB, end - offset), offset)
                if piece.strip(b"\0"):
                    yield offset, piece
            position = end


def peak(qmon: Qmon) -> int:
    """The most memory that a process has had resident, in bytes (proc(5), VmHWM)."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * KIB


@pytest.mark.parametrize("held_there", [False, True], ids=["to an empty image", "over another's content"])
@pytest.mark.parametrize("piece", [4 * KIB, HELD], ids=["scattered", "in one piece"])
def test_64_gib_of_which_little_is_held_move_in_little_memory(lab: Lab, piece: int, held_there: bool) -> None:
    image = sparse(lab.folder / "source.img", piece, 1)
    there = lab.folder / "target.img"
    if held_there:
        sparse(there, piece, 2)
    else:
        blank(there, SIZE)
    source, target, uri = lab.pair(drive(image), drive(there), bandwidth="100G")
    migrated(source, target, f"migrate -d blk {uri}", 5 * PATIENCE)
    assert all(one == other for one, other in zip(data_of(image), data_of(there), strict=True))
    # What the test has written itself takes as much room on this file system.
    assert there.stat().st_blocks <= 4 * image.stat().st_blocks
    peaks = {side.name: peak(side) // MIB for side in (source, target)}
    assert max(peaks.values()) * MIB < MOST, peaks

"""Every line that a storage daemon can run, on 7.2 and 10, and what it does to the disks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.images import MIB, noise
from tests.support.peers import require
from tests.support.storage_daemon import DAEMONS, Seat, StorageDaemon

SIZE = 4 * MIB


@pytest.fixture(params=list(DAEMONS.values()), ids=list(DAEMONS))
def seat(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Seat]:
    require("qemu-img", "qemu-io", request.param[0])
    (tmp_path / "base.img").write_bytes(noise(SIZE))
    img("create -q -f qcow2 -F raw -b base.img d0.qcow2", tmp_path)
    write("d0.qcow2", 1 * MIB, 7, tmp_path)
    daemon = StorageDaemon(request.param, tmp_path)
    try:
        seat = Seat(daemon)
        try:
            yield seat
        finally:
            seat.close()
    finally:
        daemon.close()


def img(words: str, folder: Path) -> str:
    done = subprocess.run(
        ["qemu-img", *words.split()], cwd=folder, capture_output=True, text=True, check=True
    )
    return done.stdout


def write(image: str, offset: int, pattern: int, folder: Path, size: int = 64 << 10) -> None:
    """Write to an image, or to an export by its URI, as another program does."""
    command = [
        "qemu-io",
        "-f",
        "raw" if ":" in image else "qcow2",
        "-c",
        f"write -P {pattern} {offset} {size}",
        image,
    ]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)


def same(one: str, other: str, folder: Path) -> bool:
    return (
        subprocess.run(["qemu-img", "compare", "-U", one, other], cwd=folder, capture_output=True).returncode
        == 0
    )


def chain(image: str, folder: Path) -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = json.loads(img(f"info -U --backing-chain --output json {image}", folder))
    return told


def contents(image: str, folder: Path) -> bytes:
    img(f"convert -U -O raw {image} contents.tmp", folder)
    return (folder / "contents.tmp").read_bytes()


def expected(*writes: tuple[int, int]) -> bytes:
    """The disk's contents after writes of 64 KiB, (offset, pattern)."""
    data = bytearray(noise(SIZE))
    for offset, pattern in writes:
        data[offset : offset + (64 << 10)] = bytes([pattern]) * (64 << 10)
    return bytes(data)


D0 = "drive_add 0 file=d0.qcow2,format=qcow2,if=none,id=d0,discard=on"


def test_a_disk_is_added_listed_and_removed(seat: Seat) -> None:
    assert seat.says("info block") == ""
    assert seat.says(D0) == "OK"
    assert seat.says("info block") == (
        "d0: d0.qcow2 (qcow2)\n    Cache mode:       writeback\n"
        "    Backing file:     base.img (chain depth: 1)"
    )
    assert "virtual size: 4 MiB" in seat.says("info block -v d0")
    assert seat.says("info block -n").count("Cache mode") == 4
    assert seat.says("drive_add 0 file=d0.qcow2,id=x") == (
        "a storage daemon does not find out the format: write format=qcow2 or format=raw"
    )
    seat.quietly("drive_del d0")
    assert seat.says("info block") == ""
    assert "nosuch" in seat.says("drive_del nosuch")


def test_a_disk_is_written_to_its_backing_image_and_stays_in_use(seat: Seat) -> None:
    assert seat.says(D0) == "OK"
    seat.quietly("nbd_server_start unix:nbd", "nbd_server_add -w d0", "commit d0")
    assert (seat.folder / "base.img").read_bytes() == expected((MIB, 7))
    write("nbd+unix:///d0?socket=nbd", 2 * MIB, 9, seat.folder)
    assert (seat.folder / "base.img").read_bytes() == expected((MIB, 7))
    write("nbd+unix:///d0?socket=nbd", MIB, 11, seat.folder)
    seat.quietly("commit all", "nbd_server_stop", "drive_del d0")
    assert (seat.folder / "base.img").read_bytes() == expected((MIB, 11), (2 * MIB, 9))
    assert same("base.img", "d0.qcow2", seat.folder)
    assert seat.qmp("query-jobs") == []

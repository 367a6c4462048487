"""The NBD client with the field's servers: QEMU's of both versions, nbdkit, and qmon's own."""

from __future__ import annotations

import os
import random
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from qmon.nbd.client import ALLOCATION_DEPTH, NbdClient, NbdError
from tests.support.nbd_served import RawDisk, Served
from tests.support.peers import require
from tests.support.waiting import PATIENCE, connect_when_there

MIB = 1 << 20
SIZE = 40 * MIB
ALLOCATION = "base:allocation"

QEMU_7 = ("qemu-nbd",)
QEMU_10 = ("/opt/qemu10/run", "qemu-nbd")


def image(path: Path) -> bytes:
    """A sparse image with data of 40 MiB, more than one request reads; returns its bytes."""
    content = bytearray(SIZE)
    for at in (0, 5 * MIB, 33 * MIB - 1000, SIZE - 4096):
        content[at : at + 4096] = random.Random(at).randbytes(4096)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for at in range(0, SIZE, 4096):
            if any(content[at : at + 4096]):
                os.pwrite(file.fileno(), content[at : at + 4096], at)
    return bytes(content)


@contextmanager
def served(folder: Path, *command: str | Path) -> Iterator[Path]:
    """Run a server in the foreground until the end of the block; give its socket."""
    path = folder / "nbd"
    process = subprocess.Popen([str(word) for word in command], cwd=folder)
    try:
        connect_when_there(path).close()
        yield path
    finally:
        process.terminate()
        process.wait(PATIENCE)


@contextmanager
def qemu_nbd(program: tuple[str, ...], folder: Path, *options: str, file: str = "d0.img") -> Iterator[Path]:
    require(program[0])
    path = folder / "nbd"
    path.unlink(missing_ok=True)
    with served(folder, *program, "--persistent", "-k", path, "-x", "d0", *options, file):
        yield path


@contextmanager
def nbdkit(folder: Path) -> Iterator[Path]:
    require("nbdkit")
    with served(folder, "nbdkit", "-f", "-U", folder / "nbd", "-e", "d0", "file", folder / "d0.img") as path:
        yield path


@contextmanager
def own(folder: Path) -> Iterator[Path]:
    server = Served(folder)
    server.disk.node.close()
    server.disk.node = RawDisk(folder / "d0.img").node
    try:
        yield server.socket
    finally:
        server.close()


@pytest.fixture(params=["qemu7", "qemu10", "nbdkit", "own"])
def serve(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Path, bytes]]:
    """A server's socket, and the bytes of its export d0."""
    content = image(tmp_path / "d0.img")
    servers = {
        "qemu7": lambda: qemu_nbd(QEMU_7, tmp_path, "-r", "-f", "raw"),
        "qemu10": lambda: qemu_nbd(QEMU_10, tmp_path, "-r", "-f", "raw"),
        "nbdkit": lambda: nbdkit(tmp_path),
        "own": lambda: own(tmp_path),
    }
    with servers[request.param]() as path:
        yield path, content


def test_all_of_an_export_is_read(serve: tuple[Path, bytes]) -> None:
    path, content = serve
    with NbdClient(connect_when_there(path), "d0") as client:
        assert client.size == SIZE
        assert client.read(0, SIZE) == content
        assert client.read(33 * MIB - 4096, 8192) == content[33 * MIB - 4096 :][:8192]


def test_the_status_of_an_export_covers_it_once(serve: tuple[Path, bytes]) -> None:
    path, content = serve
    with NbdClient(connect_when_there(path), "d0", [ALLOCATION, "no:such"]) as client:
        assert client.contexts == {ALLOCATION}
        at = 0
        for length, status in client.extents(ALLOCATION, 0, SIZE):
            if status & 2:
                assert not any(content[at : at + length])
            at += length
        assert at == SIZE


@pytest.mark.parametrize("way", ["--no-sr", "--mask-handshake=0"])
def test_an_export_of_an_old_server_is_read(tmp_path: Path, way: str) -> None:
    require("nbdkit")
    content = image(tmp_path / "d0.img")
    command = ("nbdkit", "-f", "-U", tmp_path / "nbd", way, "file", tmp_path / "d0.img")
    with served(tmp_path, *command) as path, NbdClient(connect_when_there(path), "d0") as client:
        assert client.read(0, SIZE) == content
        with pytest.raises(NbdError, match="no metadata context"):
            client.block_status(ALLOCATION, 0, 4096)


def test_an_unknown_export_is_refused_in_the_server_s_words(tmp_path: Path) -> None:
    image(tmp_path / "d0.img")
    with (
        qemu_nbd(QEMU_7, tmp_path, "-f", "raw") as path,
        pytest.raises(NbdError, match=r"refused GO: export 'd1' not present"),
    ):
        NbdClient(connect_when_there(path), "d1")


@pytest.mark.parametrize("program", [QEMU_7, QEMU_10], ids=["qemu7", "qemu10"])
def test_the_allocation_depth_tells_an_empty_overlay_from_another(
    program: tuple[str, ...], tmp_path: Path
) -> None:
    image(tmp_path / "base.img")
    create = ["qemu-img", "create", "-q", "-f", "qcow2", "-b", "base.img", "-F", "raw", "d0.qcow2"]
    subprocess.run(create, cwd=tmp_path, check=True)
    for write, depths in (("", {2}), ("write 1M 64k", {1, 2})):
        if write:
            subprocess.run(
                ["qemu-io", "-c", write, "d0.qcow2"], cwd=tmp_path, check=True, capture_output=True
            )
        with (
            qemu_nbd(program, tmp_path, "-r", "-A", "-f", "qcow2", file="d0.qcow2") as path,
            NbdClient(connect_when_there(path), "d0", [ALLOCATION_DEPTH]) as client,
        ):
            assert client.is_read_only
            assert {status for _, status in client.extents(ALLOCATION_DEPTH, 0, client.size)} == depths

"""The NBD server with the field's own clients: qemu-io, qemu-img, nbdinfo, nbdcopy, nbdsh and fio."""

from __future__ import annotations

import json
import os
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from qmon.nbd.server import Export
from tests.support.nbd_served import Served
from tests.support.peers import require
from tests.support.waiting import PATIENCE, eventually

MIB = 1 << 20
SIZE = 64 * MIB
SYSTEM = {**os.environ, "PATH": f"/usr/bin:{os.environ.get('PATH', '')}"}
"""nbdsh runs the first python3 on PATH, and only the system's has its module."""


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path)
    yield served
    served.close()


def run(*command: str | Path, fails: bool = False) -> str:
    """Run a client to its end and return what it printed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=2 * PATIENCE, env=SYSTEM)
    assert bool(done.returncode) == fails, done.stdout + done.stderr
    return done.stdout + done.stderr


def qemu_io(uri: str, *commands: str, fails: bool = False) -> str:
    return run(
        "qemu-io", "-f", "raw", *(word for line in commands for word in ("-c", line)), uri, fails=fails
    )


def fill(path: Path, seed: int = 1) -> None:
    """A disk with data, holes, and written zeros."""
    chance = random.Random(seed)
    with path.open("wb") as file:
        file.truncate(SIZE)
        for _ in range(12):
            file.seek(chance.randrange(SIZE // MIB - 2) * MIB + chance.choice((0, 4096, 65536)))
            file.write(chance.randbytes(chance.randrange(1, 2 * MIB)))
        file.seek(SIZE - 3 * MIB)
        file.write(bytes(MIB))


def test_qemu_io_writes_reads_zeroes_discards_and_flushes(served: Served) -> None:
    require("qemu-io")
    qemu_io(
        served.uri,
        "write -P 0x11 0 4M",
        "write -f -P 0x22 1M 64k",
        "write -z 2M 64k",
        "write -z -u 3M 64k",
        "discard 3584k 512k",
        "write -P 0x33 65535k 1k",
        "flush",
        "read -P 0x11 0 1M",
        "read -P 0x22 1M 64k",
        "read -P 0 2M 64k",
        "read -P 0 3M 64k",
        "read -P 0x33 65535k 1k",
    )
    data = served.image.read_bytes()
    assert data[:MIB] == b"\x11" * MIB
    assert data[MIB : MIB + 65536] == b"\x22" * 65536
    assert data[2 * MIB : 2 * MIB + 65536] == bytes(65536)
    assert data[3 * MIB : 3 * MIB + 65536] == bytes(65536)
    assert data[-1024:] == b"\x33" * 1024
    assert os.stat(served.image).st_blocks * 512 < 5 * MIB


def test_qemu_ios_largest_and_odd_requests_arrive_whole(served: Served) -> None:
    require("qemu-io")
    qemu_io(served.uri, "write -P 0x77 1 31M", "read -P 0x77 1 31M", "read -P 0 0 1", "read 0 32M")
    data = served.image.read_bytes()
    assert data[: 31 * MIB + 2] == b"\0" + b"\x77" * (31 * MIB) + b"\0"


def test_pipelined_qemu_requests_are_all_answered(served: Served) -> None:
    require("qemu-io")
    writes = [f"aio_write -q -P {n + 1} {n * 700}k 700k" for n in range(40)]
    reads = [f"aio_read -q -P {n + 1} {n * 700}k 700k" for n in range(40)]
    assert "failed" not in qemu_io(served.uri, *writes, "aio_flush", *reads, "aio_flush")


def test_nbdinfo_shows_what_the_export_can_do(served: Served) -> None:
    require("nbdinfo")
    (export,) = json.loads(run("nbdinfo", "--json", "--no-content", served.uri))["exports"]
    expected = {
        "export-name": "d0",
        "description": "a test's disk",
        "export-size": SIZE,
        "contexts": ["base:allocation"],
        "is_read_only": False,
        "can_df": True,
        "can_flush": True,
        "can_fua": True,
        "can_multi_conn": True,
        "can_trim": True,
        "can_zero": True,
        "can_fast_zero": True,
        "block_size_minimum": 1,
        "block_size_preferred": 4096,
        "block_size_maximum": 32 * MIB,
    }
    assert {key: export.get(key) for key in expected} == expected


def test_nbdinfo_lists_the_exports(served: Served) -> None:
    require("nbdinfo")
    served.server.add(Export("d1", served.disk, writable=False))
    exports = json.loads(run("nbdinfo", "--json", "--list", f"nbd+unix:///?socket={served.socket}"))[
        "exports"
    ]
    assert [(export["export-name"], export["is_read_only"]) for export in exports] == [
        ("d0", False),
        ("d1", True),
    ]


def test_nbdinfo_maps_data_and_holes(served: Served) -> None:
    require("nbdinfo", "qemu-io")
    qemu_io(served.uri, "write -P 1 1M 2M", "write -P 1 10M 64k")
    extents: list[dict[str, Any]] = json.loads(run("nbdinfo", "--json", "--map", served.uri))
    assert [(extent["offset"], extent["length"], extent["type"]) for extent in extents] == [
        (0, MIB, 3),
        (MIB, 2 * MIB, 0),
        (3 * MIB, 7 * MIB, 3),
        (10 * MIB, 65536, 0),
        (10 * MIB + 65536, SIZE - 10 * MIB - 65536, 3),
    ]


def test_an_unknown_export_is_refused_by_name(served: Served) -> None:
    require("qemu-io")
    said = qemu_io(f"nbd+unix:///nope?socket={served.socket}", "read 0 512", fails=True)
    assert "export 'nope' not present; exports here: 'd0'" in said


def test_nbdcopy_brings_a_sparse_disk_in_and_out(served: Served, tmp_path: Path) -> None:
    require("nbdcopy")
    source, back = tmp_path / "source.img", tmp_path / "back.img"
    fill(source)
    run("nbdcopy", "--flush", source, served.uri)
    assert served.image.read_bytes() == source.read_bytes()
    file_system_s_own = 64 << 10
    room, needed = (os.stat(path).st_blocks * 512 for path in (served.image, source))
    assert room <= needed + file_system_s_own
    run("nbdcopy", served.uri, back)
    assert back.read_bytes() == source.read_bytes()


def test_several_connections_of_nbdcopy_write_one_disk(served: Served, tmp_path: Path) -> None:
    require("nbdcopy")
    source = tmp_path / "source.img"
    fill(source, seed=2)
    options = ["--connections=4", "--threads=4", "--requests=16", "--request-size=65536"]
    run("nbdcopy", *options, source, served.uri)
    assert served.image.read_bytes() == source.read_bytes()


def test_qemu_img_converts_and_compares(served: Served, tmp_path: Path) -> None:
    require("qemu-img")
    source, back = tmp_path / "source.img", tmp_path / "back.qcow2"
    fill(source, seed=3)
    run("qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", source, served.uri)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "raw", source, served.uri)
    run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", served.uri, back)
    assert "identical" in run("qemu-img", "compare", "-f", "raw", "-F", "qcow2", source, back)


@pytest.mark.parametrize(("block", "depth", "jobs"), [("4k", 32, 1), ("512-128k", 8, 2), ("3m", 4, 1)])
def test_fio_verifies_what_it_wrote(served: Served, block: str, depth: int, jobs: int) -> None:
    require("fio")
    run(
        "fio",
        "--name=verify",
        "--ioengine=nbd",
        f"--uri={served.uri}",
        "--rw=randwrite",
        f"--{'bsrange' if '-' in block else 'bs'}={block}",
        f"--iodepth={depth}",
        f"--numjobs={jobs}",
        f"--size={SIZE // 4 // jobs}",
        f"--offset_increment={SIZE // 4}",
        "--verify=crc32c",
        "--verify_fatal=1",
        "--fsync=64",
        "--verify_state_save=0",
    )


def test_a_read_only_export_takes_no_write(served: Served) -> None:
    require("nbdsh")
    served.server.add(Export("view", served.disk, writable=False))
    said = nbdsh(
        f"nbd+unix:///view?socket={served.socket}",
        "h.set_strict_mode(0)",
        "print(h.is_read_only())",
        "for call in (lambda: h.pwrite(b'x' * 512, 0), lambda: h.zero(512, 0), lambda: h.trim(512, 0)):",
        "    try: call()",
        "    except nbd.Error as error: print(error.errnum)",
    )
    assert said.split() == ["True", "1", "1", "1"]


def nbdsh(uri: str, *lines: str) -> str:
    return run("nbdsh", "-u", uri, "-c", "\n".join(lines))


def start(*command: str | Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=SYSTEM,
    )


def test_requests_wait_at_a_closed_gate(served: Served) -> None:
    require("qemu-io")
    assert served.disk.gate.close("stopped")
    client = start("qemu-io", "-f", "raw", "-c", "write -P 5 0 4k", "-c", "read -P 5 0 4k", served.uri)
    try:
        eventually(lambda: served.server.clients("d0") == 1, "it is connected")
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(0.5)
        served.disk.gate.open("stopped")
        said = client.communicate(timeout=PATIENCE)[0]
    finally:
        client.kill()
        client.wait()
    assert client.returncode == 0, said
    assert served.image.read_bytes()[:4096] == b"\x05" * 4096


def test_clients_of_a_disk_that_moved_get_eshutdown_and_the_end(served: Served) -> None:
    require("nbdsh")
    assert served.disk.gate.close("handover")
    client = start(
        "nbdsh",
        "-u",
        served.uri,
        "-c",
        "\n".join(
            (
                "print('connected', flush=True)",
                "try: h.pwrite(b'x' * 4096, 0)",
                "except nbd.Error as error: print(error.errnum)",
                "while not (h.aio_is_dead() or h.aio_is_closed()): h.poll(5000)",
                "print('closed')",
            )
        ),
    )
    try:
        assert client.stdout is not None
        assert client.stdout.readline() == "connected\n"
        with pytest.raises(subprocess.TimeoutExpired):
            client.wait(0.5)
        served.disk.gate.shut()
        said = client.communicate(timeout=PATIENCE)[0]
    finally:
        client.kill()
        client.wait()
    assert said.split() == ["108", "closed"]
    assert served.image.read_bytes()[:4096] == bytes(4096)


def test_stopping_with_clients_connected_ends_them_and_frees_the_image(served: Served) -> None:
    require("qemu-io")
    client = start("qemu-io", "-f", "raw", served.uri)
    try:
        eventually(lambda: served.server.clients("d0"), "it is connected")
        served.server.stop()
        served.disk.node.close()
        assert client.stdin is not None
        client.stdin.write("read 0 512\nquit\n")
        client.stdin.close()
        client.stdin = None
        said = client.communicate(timeout=PATIENCE)[0]
    finally:
        client.kill()
        client.wait()
    assert "failed" in said or "error" in said.lower(), said
    qemu_io(str(served.image), "write -P 9 0 512")

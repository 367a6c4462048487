"""Extended headers with QEMU 10's clients: 64-bit requests, and everything else as before."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.images import MIB
from tests.support.nbd_served import Served
from tests.support.peers import require
from tests.support.waiting import PATIENCE

NEWER = "/opt/qemu10/run"
GIB = 1 << 30


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    require(NEWER)
    served = Served(tmp_path, 6 * GIB)
    yield served
    served.close()


def run(*command: str | Path) -> str:
    done = subprocess.run((NEWER, *command), capture_output=True, text=True, timeout=2 * PATIENCE)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def io(served: Served, *lines: str) -> str:
    return run("qemu-io", "-f", "raw", *(word for line in lines for word in ("-c", line)), served.uri)


def test_they_are_negotiated(served: Served) -> None:
    listed = run("qemu-nbd", "--list", "-k", served.socket)
    assert "transaction size: 64-bit" in listed
    assert "( flush fua trim zeroes df multi cache fast-zero )" in listed


def test_requests_of_all_kinds_and_sizes_are_served(served: Served) -> None:
    io(
        served,
        "write -P 0x11 0 4M",
        "write -f -P 0x22 1M 64k",
        "write -z 2M 64k",
        "write -z -u -n 3M 64k",
        "discard 3584k 512k",
        "write -P 0x77 1 31M",
        "write -P 0x33 5G 1k",
        "flush",
        "read -P 0x77 1 31M",
        "read -P 0 33M 20M",
        "read -P 0x33 5G 1k",
        "read -P 0 5368710144 512",
    )
    with served.image.open("rb") as file:
        assert file.read(31 * MIB + 2) == b"\x11" + b"\x77" * (31 * MIB) + b"\0"
        file.seek(5 * GIB)
        assert file.read(1025) == b"\x33" * 1024 + b"\0"


def test_pipelined_requests_are_all_answered(served: Served) -> None:
    writes = [f"aio_write -q -P {n + 1} {n * 700}k 700k" for n in range(40)]
    durable = [f"aio_write -q -f -P {n + 101} {n * 4 + 65536}k 4k" for n in range(40)]
    reads = [f"aio_read -q -P {n + 1} {n * 700}k 700k" for n in range(40)]
    assert "failed" not in io(served, *writes, *durable, "aio_flush", *reads, "aio_flush")


def test_5_gib_are_zeroed_by_one_request_and_mapped_as_one_extent(served: Served) -> None:
    io(served, "write -P 1 5G 1M", "write -z -u -n 512 5G")
    assert served.disk.accounts.total().wr_operations == 2
    extents = json.loads(run("qemu-img", "map", "--output=json", "-f", "raw", served.uri))
    assert [(extent["start"], extent["length"], extent["data"]) for extent in extents] == [
        (0, 5 * GIB, False),
        (5 * GIB, MIB, True),
        (5 * GIB + MIB, GIB - MIB, False),
    ]


def test_a_fast_zero_that_would_be_slow_is_refused(served: Served) -> None:
    with pytest.raises(AssertionError, match="Operation not supported"):
        io(served, "write -z -n 0 1M")

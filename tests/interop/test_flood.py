"""Clients that ask for much and read nothing: what the process holds stays small, and others are served."""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from qmon.nbd.constants import Command
from tests.interop.processes import KIB, MIB, Lab, Qmon, blank, drive, eventually, filled
from tests.nbd.client import Client, request

MEMORY_MAX = 200 * MIB
SETTLED_SECONDS = 1.0


def memory(qmon: Qmon) -> int:
    """What a process holds of the machine's memory, in bytes."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * KIB


def peak(qmon: Qmon) -> int:
    """The most that it ever held."""
    status = Path(f"/proc/{qmon.process.pid}/status").read_text()
    (line,) = (line for line in status.splitlines() if line.startswith("VmHWM:"))
    return int(line.split()[1]) * KIB


@contextlib.contextmanager
def nbd_client(qmon: Qmon, *, structured: bool = True, allocation: bool = False) -> Iterator[Client]:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(qmon.nbd))
    with Client(sock) as client:
        yield client.go("d0", structured=structured, allocation=allocation)


def settle(qmon: Qmon) -> None:
    """Wait until the process has done all that it does for those who don't read."""
    before = -1
    while (now := memory(qmon)) != before:
        before = now
        time.sleep(SETTLED_SECONDS)


@pytest.mark.parametrize("structured", [False, True], ids=["simple", "structured"])
@pytest.mark.parametrize("clients", [30, 120])
def test_clients_that_read_nothing_hold_little_and_keep_nobody_waiting(
    lab: Lab, clients: int, structured: bool
) -> None:
    image = filled(lab.folder / "disk.img", 48 * MIB)
    qmon = lab.start("qmon", *drive(image))
    qmon.export("d0")
    with contextlib.ExitStack() as stack:
        for number in range(clients):
            client = stack.enter_context(nbd_client(qmon, structured=structured))
            client.send(*(request(Command.READ, n * 512, 32 * MIB) for n in range(16 + number % 5)))
        settle(qmon)
        with nbd_client(qmon, structured=structured) as good:
            data = image.read_bytes()
            for offset in range(0, 16 * MIB, 4 * MIB):
                assert good.ask(Command.READ, offset, 32 * MIB).data == data[offset : offset + 32 * MIB]
            assert good.ask(Command.WRITE, 512, data=data[:MIB]).error == 0
        assert peak(qmon) < MEMORY_MAX


def test_writes_of_many_clients_to_a_machine_that_is_stopped_hold_little(lab: Lab) -> None:
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", 64 * MIB)))
    qmon.export("d0")
    qmon.quietly("stop")
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(nbd_client(qmon)) for _ in range(120)]
        for client in clients:
            client.socket.setblocking(False)
            data = memoryview(request(Command.WRITE, 0, data=b"w" * (32 * MIB)))
            with contextlib.suppress(BlockingIOError):
                while data:
                    data = data[client.socket.send(data) :]
        settle(qmon)
        assert peak(qmon) < MEMORY_MAX
        assert qmon.status() == "paused"
        qmon.quietly("cont")
        with nbd_client(qmon) as good:
            assert good.ask(Command.WRITE, 48 * MIB, data=b"g" * (16 * MIB)).error == 0
        assert peak(qmon) < MEMORY_MAX


def test_a_status_of_a_whole_disk_asked_for_again_and_again_holds_little(lab: Lab) -> None:
    image = blank(lab.folder / "disk.img", 64 * MIB)
    with image.open("r+b") as file:
        for block in range(0, 64 * MIB, 8 * KIB):
            file.seek(block)
            file.write(b"x")
    qmon = lab.start("qmon", *drive(image))
    qmon.export("d0")
    with contextlib.ExitStack() as stack:
        for _ in range(12):
            client = stack.enter_context(nbd_client(qmon, allocation=True))
            client.send(*(request(Command.BLOCK_STATUS, 0, 64 * MIB, cookie=n) for n in range(64)))
        settle(qmon)
        with nbd_client(qmon, allocation=True) as good:
            assert good.ask(Command.BLOCK_STATUS, 0, 64 * MIB).extents[:2] == ((4096, 0), (4096, 3))
        assert peak(qmon) < MEMORY_MAX


def test_a_client_gets_its_memory_back_to_the_process_when_it_leaves(lab: Lab) -> None:
    qmon = lab.start("qmon", *drive(filled(lab.folder / "disk.img", 48 * MIB)))
    qmon.export("d0")
    before = memory(qmon)
    for _ in range(2):
        with contextlib.ExitStack() as stack:
            for _ in range(60):
                stack.enter_context(nbd_client(qmon)).send(request(Command.READ, 0, 32 * MIB))
            settle(qmon)
        eventually(lambda: memory(qmon) < before + 16 * MIB, "the memory of those who left is given back")

"""Clients that ask for much and read nothing: what the process holds stays small, and others are served."""

from __future__ import annotations

import contextlib
import select
import statistics
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from qmon.nbd.constants import Command
from tests.support.images import KIB, MIB, blank, drive, filled
from tests.support.nbd_client import NbdClient, request
from tests.support.process_memory import MEMORY_MAX, memory, peak
from tests.support.processes import Lab, Qmon
from tests.support.qmp_client import QmpClient
from tests.support.waiting import connected, eventually

SETTLED_SECONDS = 1.0


@contextlib.contextmanager
def nbd_client(qmon: Qmon, *, structured: bool = True, allocation: bool = False) -> Iterator[NbdClient]:
    with NbdClient(qmon.nbd) as client:
        yield client.go("d0", structured=structured, allocation=allocation)


def settle(qmon: Qmon) -> None:
    """Wait until the process has done all that it does for those who don't read."""
    before = -1
    while (now := memory(qmon)) != before:
        before = now
        time.sleep(SETTLED_SECONDS)


@pytest.mark.sample(2)
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


LARGE = 45 * MIB
NAME = b'{"execute": "query-name", "id": '


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("message", "answer"),
    [
        (NAME + b'"' + b"a" * LARGE + b'"}', {"return": {}, "id": "a" * LARGE}),
        (NAME + b'"' + "ж".encode() * (LARGE // 2) + b'"}', {"return": {}, "id": "ж" * (LARGE // 2)}),
        (NAME + b"[" + b"[]," * 300_000 + b"0]}", {"return": {}, "id": [*([[]] * 300_000), 0]}),
        (NAME + b"[" + b"0," * (LARGE // 2) + b"0]}", "JSON token count limit exceeded"),
        (
            NAME + "\N{GRINNING FACE}".encode().join([b'"', b"a" * LARGE + b'"}']),
            "JSON token size limit exceeded",
        ),
        (b'{"execute": "' + b"a" * LARGE + b'"}', f"The command {'a' * LARGE} has not been found"),
    ],
    ids=["text", "wide text", "lists", "tokens", "one very wide character", "command"],
)
def test_a_large_qmp_message_takes_little_and_others_are_served(
    lab: Lab, message: bytes, answer: Any
) -> None:
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", MIB)))
    before = memory(qmon)
    with QmpClient(qmon.qmp_path) as client, QmpClient(qmon.qmp_path) as other:
        ended = threading.Event()
        waits: list[float] = []

        def ask() -> None:
            while not ended.wait(0.01):
                began = time.monotonic()
                assert other.run("query-status")["running"]
                waits.append(time.monotonic() - began)

        asking = threading.Thread(target=ask)
        asking.start()
        began = time.monotonic()
        client.socket.sendall(message)
        got = client.read()
        took = time.monotonic() - began
        ended.set()
        asking.join()
        # Not compared by assert, which would show the difference of 45 MB.
        right = got == answer if isinstance(answer, dict) else got["error"]["desc"] == answer
        assert right, str(got)[:200]
        assert peak(qmon) < MEMORY_MAX
        # Whoever has to wait until a message is read or answered waits for a large part of all that time.
        assert statistics.median(waits) < max(0.1, took / 10)
        assert client.send({"execute": "query-name", "id": 5}) == {"return": {}, "id": 5}
        eventually(lambda: memory(qmon) < before + 64 * MIB, "the message's memory is given back")


def test_large_qmp_messages_that_never_end_hold_little_together(lab: Lab) -> None:
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", MIB)))
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(QmpClient(qmon.qmp_path)) for _ in range(12)]
        for client in clients:
            client.socket.sendall(NAME + b'"' + b"a" * LARGE)

        def answered() -> list[QmpClient]:
            there, _, _ = select.select([each.socket for each in clients], [], [], 0)
            return [each for each in clients if each.socket in there]

        eventually(lambda: len(answered()) >= 10, "all but two are refused")
        for client in answered():
            assert client.read()["error"]["desc"] == "JSON token size limit exceeded"
        with QmpClient(qmon.qmp_path) as good:
            assert good.send({"execute": "query-name", "id": "x" * 500_000})["id"] == "x" * 500_000
        assert peak(qmon) < MEMORY_MAX
    with QmpClient(qmon.qmp_path) as good:
        eventually(
            lambda: "return" in good.send({"execute": "query-name", "id": "x" * 5_000_000}),
            "those that have left give back what they held",
        )


def test_clients_that_read_no_answers_and_no_events_hold_little(lab: Lab) -> None:
    """Whoever leaves the most unread is given up, and nobody else."""
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", MIB)))
    with contextlib.ExitStack() as stack:
        good = stack.enter_context(QmpClient(qmon.qmp_path))
        silent = [stack.enter_context(QmpClient(qmon.qmp_path)) for _ in range(20)]
        for client in silent:
            client.socket.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                for _ in range(10_000):
                    client.socket.send(b'{"execute": "query-commands"}' * 50)
        for _ in range(2000):
            assert good.run("stop") == {}
            assert good.run("cont") == {}
        assert good.event_names == ["STOP", "RESUME"] * 2000
        assert peak(qmon) < MEMORY_MAX


def test_a_monitor_client_that_sends_a_line_without_end_or_reads_nothing_holds_little(lab: Lab) -> None:
    qmon = lab.start("qmon", *drive(blank(lab.folder / "disk.img", MIB)))
    with contextlib.ExitStack() as stack:
        for sent in (
            b"x" * (1 << 16),
            b"help\n" * (1 << 13),
            b"info " + b"\t" * (1 << 16),
            b"\xe2\x80\xae" * 9999,
        ):
            for _ in range(5):
                client = stack.enter_context(connected(lab.folder / "qmon.sock"))
                client.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    for _ in range(200):
                        client.send(sent)
        settle(qmon)
        assert qmon.status() == "running"
        assert peak(qmon) < MEMORY_MAX

"""What a disk that hangs costs the clients of another one: fio's rate there, without the hang and with it.

    python -m bench.hanging [--seconds N] [--rounds N]

One qmon serves both disks. Eight clients, with eight requests each, are stuck on the one that hangs:
by a fault that delays all its requests, or in a file system (FUSE) whose server is stopped. The runs without
and with it take turns; the median of the rounds' ratios counts.
"""

from __future__ import annotations

import argparse
import contextlib
import random
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from bench import ground, results
from bench.nbd import Job, load, make_image, measure
from bench.results import Column
from qmon.nbd.constants import Command
from tests.support.nbd_client import NbdClient, request
from tests.support.qmp_client import QmpClient

SIZE_MIB = 64
JOBS = [
    Job(clients=8, block=4, is_read=True, depth=1),
    Job(clients=1, block=4, is_read=True, depth=32),
    Job(clients=1, block=4, is_read=False, depth=32),
    Job(clients=2, block=1024, is_read=True, depth=4),
]
OPERATIONS = ("read", "write", "flush")
HOURS_MS = 3_600_000
STUCK = 8
"""Clients that are stuck, and the requests of each."""
SETTLE_SECONDS = 0.2
READY_SECONDS = 20.0

Hang = Callable[[], contextlib.AbstractContextManager[None]]


def wait_for(holds: Callable[[], bool], what: str) -> None:
    """Wait until something holds; end the program with a line if it never does."""
    deadline = time.monotonic() + READY_SECONDS
    while not holds():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not within {READY_SECONDS:.0f} s")
        time.sleep(0.02)


@contextmanager
def program(*command: str | Path) -> Iterator[subprocess.Popen[bytes]]:
    """A program that runs until the end of the block."""
    process = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()


class Bench:
    """A qmon with the disks ``sound``, ``faulty`` and, if this machine has FUSE, ``fuse``."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.nbd = folder / "qmon.nbd"
        self._stack = stack
        self._under: subprocess.Popen[bytes] | None = None
        for name in ("sound", "faulty", "under"):
            make_image(folder / f"{name}.img", SIZE_MIB, "raw")
        disks = {name: folder / f"{name}.img" for name in ("sound", "faulty")}
        if (mounted := self._mount()) is not None:
            disks["fuse"] = mounted
        self.hangs: dict[str, Hang] = {"faulty": self._fault}
        if "fuse" in disks:
            self.hangs["fuse"] = self._stop
        options = [
            word
            for name, path in disks.items()
            for word in ("-drive", f"if=none,id={name},format=raw,file={path}")
        ]
        qmp = folder / "qmp"
        server = ("-monitor", "none", "-qmp", f"unix:{qmp},server,nowait")
        stack.enter_context(program(sys.executable, "-m", "qmon", *options, *server))
        wait_for(qmp.exists, "qmon does not start")
        self.qmp = stack.enter_context(QmpClient(qmp))
        self.qmp.run("nbd-server-start", addr={"type": "unix", "data": {"path": str(self.nbd)}})
        for name in disks:
            self.qmp.run("nbd-server-add", device=name, writable=True)

    def _mount(self) -> Path | None:
        """A file on FUSE, over NBD from a server that can be stopped; None where that is not possible."""
        if ground.lacks(["nbdkit", "nbdfuse", "fusermount3"], "without FUSE"):
            return None
        mount, socket = self.folder / "mount", self.folder / "under.nbd"
        mount.mkdir()
        file = mount / "disk.img"
        under = self._stack.enter_context(
            program("nbdkit", "-f", "-U", socket, "file", self.folder / "under.img")
        )
        wait_for(socket.exists, "nbdkit does not start")
        fuse = self._stack.enter_context(program("nbdfuse", file, f"nbd+unix:///?socket={socket}"))
        wait_for(lambda: file.exists() or fuse.poll() is not None, "nbdfuse does not start")
        if fuse.poll() is not None:
            print("without FUSE: this machine has none")
            return None
        self._stack.callback(subprocess.run, ["umount", "--lazy", str(mount)], check=True)
        self._under = under
        return file

    @contextmanager
    def _fault(self) -> Iterator[None]:
        rules = [
            self.qmp.run("x-qmon-fault-add", drive="faulty", operation=operation, delay=HOURS_MS)["id"]
            for operation in OPERATIONS
        ]
        try:
            yield
        finally:
            for rule in rules:
                self.qmp.run("x-qmon-fault-del", id=rule)

    @contextmanager
    def _stop(self) -> Iterator[None]:
        assert self._under is not None
        self._under.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._under.send_signal(signal.SIGCONT)

    def rate(self, job: Job, seconds: float) -> float:
        """fio's rate on the sound disk."""
        return measure(str(self.nbd), job, SIZE_MIB << 20, seconds, export="sound").rate

    @contextmanager
    def stuck(self, name: str) -> Iterator[None]:
        """Clients whose requests hang."""
        with ExitStack() as clients, self.hangs[name]():
            for number in range(STUCK):
                client = clients.enter_context(NbdClient(self.nbd)).go(name)
                client.send(*(_request(number, each) for each in range(STUCK)))
            time.sleep(SETTLE_SECONDS)
            yield


def _request(client: int, number: int) -> bytes:
    offset = random.randrange(SIZE_MIB << 8) << 12
    if (client + number) % 2:
        return request(Command.WRITE, offset, data=bytes(4096))
    return request(Command.READ, offset, 4096)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=2, help="of each fio run")
    parser.add_argument("--rounds", type=int, default=5, help="whose median counts")
    options = parser.parse_args()
    if ground.lacks(["fio"], "nothing measured"):
        return
    print(f"load before: {load()}", flush=True)
    columns = [
        Column("a second without", "{:,.0f}"),
        Column("with", "{:,.0f}"),
        Column("ratio"),
    ]
    rows: list[tuple[str, list[float]]] = []
    with ground.folder(6 * SIZE_MIB) as folder, ExitStack() as stack:
        bench = Bench(folder, stack)
        for name in bench.hangs:
            for job in JOBS:
                pairs = []
                for _ in range(options.rounds):
                    without = bench.rate(job, options.seconds)
                    with bench.stuck(name):
                        pairs.append((without, bench.rate(job, options.seconds)))
                unit = 1e6 if job.is_large else 1
                before, during = (statistics.median(each) / unit for each in zip(*pairs, strict=True))
                ratio = statistics.median(during / without for without, during in pairs)
                print(f"{name:8}{job!s:30}{before:10,.0f}{during:10,.0f}{ratio:8.2f}", flush=True)
                rows.append((f"{name}: {job}", [before, during, ratio]))
    print(f"load after: {load()}")
    results.keep("hanging", "fio's nbd engine on one disk while eight clients hang on another", columns, rows)


if __name__ == "__main__":
    main()

"""NBD servers side by side: requests a second by fio's nbd engine, on one file in memory, in one run.

python -m bench.nbd [--size MIB] [--seconds N] [--rounds N] [--only WORDS] [--qcow2] [SERVER ...]

The servers take turns, and the best of all rounds counts: other work on the machine only takes away.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench import ground, results
from bench.results import Column
from qmon.block.accounts import Accounts
from qmon.block.gate import Gate
from qmon.block.image import open_image
from qmon.block.node import Node
from qmon.host.sockets import connect, listen
from qmon.nbd.server import Export, NbdServer
from qmon.notation.address import UnixAddress

CLIENTS = (1, 4, 8, 50)
READY_SECONDS = 10.0
START_SECONDS = 0.1
"""What fio takes to start one more client on a busy machine."""


@dataclass(frozen=True)
class Job:
    """What fio does: so many clients, each with ``depth`` requests of ``block`` KiB under way."""

    clients: int
    block: int
    is_read: bool
    depth: int

    def __str__(self) -> str:
        size = "1 MiB" if self.is_large else f"{self.block} KiB"
        clients = "1 client" if self.clients == 1 else f"{self.clients} clients"
        return f"{size} {'read' if self.is_read else 'write'}, {clients}, depth {self.depth}"

    @property
    def is_large(self) -> bool:
        """Whether bytes count, not requests."""
        return self.block >= 1024

    def options(self) -> list[str]:
        kind = "read" if self.is_read else "write"
        return [
            f"--rw={kind}" if self.is_large else f"--rw=rand{kind}",
            f"--bs={self.block}k",
            f"--iodepth={self.depth}",
            f"--numjobs={self.clients}",
        ]


@dataclass(frozen=True)
class Figure:
    """Requests or bytes a second of all clients together, and the 99th percentile of the waits in ms."""

    rate: float
    p99_ms: float


JOBS = [
    *(Job(clients, 4, way, depth) for depth in (1, 32) for way in (True, False) for clients in CLIENTS),
    *(Job(clients, 1024, way, 4) for way in (True, False) for clients in CLIENTS[:-1]),
]


@dataclass
class Disk:
    """A drive as the server sees it."""

    node: Node
    gate: Gate = field(default_factory=Gate)
    accounts: Accounts = field(default_factory=Accounts)


def serve(path: str, image: str, format: str) -> None:
    """Serve an image until SIGTERM: the process that is measured as ours."""
    disk = Disk(open_image(image, format))
    server = NbdServer(listen(UnixAddress(path)))
    server.add(Export("", disk, writable=True))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server.start()
    signal.sigwait([signal.SIGTERM])
    server.stop()
    disk.node.close()


def server_command(name: str, path: str, image: str, format: str) -> list[str]:
    """The command line that serves ``image`` on the Unix socket ``path`` in the foreground."""
    match name:
        case "qemu-nbd":
            return ["qemu-nbd", "--persistent", "--shared=64", "-f", format, "-k", path, image]
        case "nbdkit":
            return ["nbdkit", "--foreground", "--unix", path, "file", image]
        case "qmon":
            return [sys.executable, "-m", "bench.nbd", "--serve", path, image, format]
    raise SystemExit(f"unknown server '{name}': use qemu-nbd, nbdkit or qmon")


@contextmanager
def running(name: str, folder: Path, image: str, format: str) -> Iterator[str]:
    """A server that accepts connections; yields its socket's path."""
    path = str(folder / f"{name}.sock")
    process = subprocess.Popen(server_command(name, path, image, format), stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not answers(path):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit(f"{name} does not serve: {process.communicate()[1].decode()}")
            time.sleep(0.01)
        yield path
    finally:
        process.terminate()
        process.communicate()
        Path(path).unlink(missing_ok=True)


def answers(path: str) -> bool:
    """Whether a server accepts connections on a Unix socket."""
    try:
        connect(UnixAddress(path)).close()
    except (FileNotFoundError, ConnectionRefusedError):
        return False
    return True


def measure(path: str, job: Job, size: int, seconds: float, export: str = "") -> Figure:
    """One fio run against a server. What counts is the time in which all clients are at work.

    fio connects them one after another, which takes a server some time, and each runs equally long.
    """
    start = job.clients * START_SECONDS
    with tempfile.TemporaryDirectory(prefix="qmon-bench-") as folder:
        command = [
            "fio",
            "--name=job",
            "--ioengine=nbd",
            f"--uri=nbd+unix:///{export}?socket={path}",
            *job.options(),
            f"--size={size}",
            "--thread",
            "--group_reporting",
            "--time_based",
            f"--ramp_time={start}",
            f"--runtime={start + seconds}",
            "--randrepeat=1",
            f"--write_iops_log={folder}/log",
            "--log_avg_msec=100",
            "--log_unix_epoch=1",
            "--output-format=json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        rate = common_rate(sorted(Path(folder).glob("log_iops.*.log")))
    found = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]["read" if job.is_read else "write"]
    rate *= job.block << 10 if job.is_large else 1
    return Figure(rate, found["clat_ns"]["percentile"]["99.000000"] / 1e6)


def common_rate(logs: list[Path]) -> float:
    """The sum of the clients' mean rates in the time that all their logs cover: lines of (ms, rate, ...)."""
    samples = [
        [(int(line.split(",")[0]), int(line.split(",")[1])) for line in log.read_text().splitlines()]
        for log in logs
    ]
    first, last = max(each[0][0] for each in samples), min(each[-1][0] for each in samples)
    if first >= last:
        raise SystemExit("the clients were not at work at the same time: use more --seconds")
    inside = [[rate for at, rate in each if first <= at <= last] for each in samples]
    return sum(statistics.mean(each) for each in inside)


def load() -> str:
    """How busy the machine is now."""
    return " ".join(f"{each:.1f}" for each in os.getloadavg())


def make_image(path: Path, mib: int, format: str) -> None:
    """An image of random data."""
    raw = path.with_suffix(".raw")
    with raw.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    if format == "raw":
        raw.rename(path)
    else:
        subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", format, raw, path], check=True)
        raw.unlink()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=3, metavar=("SOCKET", "IMAGE", "FORMAT"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=256, help="of the image, in MiB")
    parser.add_argument("--seconds", type=float, default=2, help="of each fio run")
    parser.add_argument("--rounds", type=int, default=3, help="over all servers; the best counts")
    parser.add_argument("--only", default="", help="jobs whose name has these words: '4 KiB' or 'depth 32'")
    parser.add_argument("--qcow2", action="store_true", help="a qcow2 image, without nbdkit")
    parser.add_argument("servers", nargs="*", metavar="SERVER", help="qemu-nbd, nbdkit, qmon (all)")
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    if ground.lacks(["fio"], "nothing measured"):
        return
    format = "qcow2" if options.qcow2 else "raw"
    asked = options.servers or ["qemu-nbd", *([] if options.qcow2 else ["nbdkit"]), "qmon"]
    names = [name for name in asked if name == "qmon" or not ground.lacks([name], f"without {name}")]
    jobs = [job for job in JOBS if options.only in str(job)]
    figures: dict[tuple[str, Job], list[Figure]] = {}
    print(f"load before: {load()}", flush=True)
    with ground.folder(2 * options.size) as folder:
        image = folder / "disk.img"
        make_image(image, options.size, format)
        for _ in range(options.rounds):
            for job in jobs:
                for name in names:
                    with running(name, folder, str(image), format) as path:
                        figure = measure(path, job, options.size << 20, options.seconds)
                        figures.setdefault((name, job), []).append(figure)
    print(f"load after: {load()}")
    best = {
        key: Figure(max(f.rate for f in each), min(f.p99_ms for f in each)) for key, each in figures.items()
    }
    report(names, jobs, best)


def report(names: list[str], jobs: list[Job], best: dict[tuple[str, Job], Figure]) -> None:
    """Print the best figures, and qmon's ratio to each other server's."""
    others = [name for name in names if name != "qmon"] if "qmon" in names else []
    titles = [f"{name} /s, p99 ms" for name in names] + [f"qmon/{name}" for name in others]
    print(f"{'':34}" + "".join(f"{title:>22}" for title in titles))
    columns = [Column(f"{name}: {what}") for name in names for what in ("requests or MB a second", "p99 ms")]
    columns += [Column(f"of {name}'s", plotted=True) for name in others]
    rows: list[tuple[str, list[float]]] = []
    for job in jobs:
        unit = 1e6 if job.is_large else 1
        found = [best[name, job] for name in names]
        ratios = [best["qmon", job].rate / best[name, job].rate for name in others]
        cells = [f"{figure.rate / unit:,.0f} {figure.p99_ms:8.3f}" for figure in found]
        print(
            f"{job!s:34}" + "".join(f"{cell:>22}" for cell in [*cells, *(f"{r:.2f}" for r in ratios)]),
            flush=True,
        )
        flat = [value for figure in found for value in (figure.rate / unit, figure.p99_ms)]
        rows.append((str(job), [*flat, *ratios]))
    results.keep("nbd", "fio's nbd engine over a Unix socket, an image of random data", columns, rows)


if __name__ == "__main__":
    main()

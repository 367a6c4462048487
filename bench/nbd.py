"""NBD servers side by side: requests a second by fio's nbd engine, on one file in memory, in one run.

python -m bench.nbd [--size MIB] [--seconds N] [--rounds N] [qemu-nbd] [nbdkit] [qmon]
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
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

JOBS = {
    "4 KiB read, depth 32": ("randread", "4k", 32, "iops"),
    "4 KiB write, depth 32": ("randwrite", "4k", 32, "iops"),
    "1 MiB read, MB/s": ("read", "1m", 4, "bw_bytes"),
}
READY_SECONDS = 10.0


@dataclass
class Disk:
    """A drive as the server sees it."""

    node: Node
    gate: Gate = field(default_factory=Gate)
    accounts: Accounts = field(default_factory=Accounts)


def serve(path: str, image: str) -> None:
    """Serve an image until SIGTERM: the process that is measured as ours."""
    disk = Disk(open_image(image, "raw"))
    server = NbdServer(listen(UnixAddress(path)))
    server.add(Export("", disk, writable=True))
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    server.start()
    signal.sigwait([signal.SIGTERM])
    server.stop()
    disk.node.close()


def server_command(name: str, path: str, image: str) -> list[str]:
    """The command line that serves ``image`` on the Unix socket ``path`` in the foreground."""
    match name:
        case "qemu-nbd":
            return ["qemu-nbd", "--persistent", "--shared=8", "-f", "raw", "-k", path, image]
        case "nbdkit":
            return ["nbdkit", "--foreground", "--unix", path, "file", image]
        case "qmon":
            return [sys.executable, "-m", "bench.nbd", "--serve", path, image]
    raise SystemExit(f"unknown server '{name}': use qemu-nbd, nbdkit or qmon")


@contextmanager
def running(name: str, folder: Path, image: str) -> Iterator[str]:
    """A server that accepts connections; yields its socket's path."""
    path = str(folder / f"{name}.sock")
    process = subprocess.Popen(server_command(name, path, image), stderr=subprocess.PIPE)
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


def measure(path: str, rw: str, block: str, depth: int, figure: str, size: int, seconds: float) -> float:
    """One fio run against a server; returns requests or bytes a second."""
    command = [
        "fio",
        "--name=job",
        "--ioengine=nbd",
        f"--uri=nbd+unix:///?socket={path}",
        f"--rw={rw}",
        f"--bs={block}",
        f"--iodepth={depth}",
        f"--size={size}",
        "--time_based",
        f"--runtime={seconds}",
        "--randrepeat=1",
        "--output-format=json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    job = json.loads(done.stdout[done.stdout.index("{") :])["jobs"][0]
    return float(job["write" if "write" in rw else "read"][figure])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", nargs=2, metavar=("SOCKET", "IMAGE"), help=argparse.SUPPRESS)
    parser.add_argument("--size", type=int, default=256, help="of the image, in MiB")
    parser.add_argument("--seconds", type=float, default=3, help="of each fio run")
    parser.add_argument("--rounds", type=int, default=3, help="over all servers; medians are shown")
    parser.add_argument("servers", nargs="*", metavar="SERVER", help="qemu-nbd, nbdkit, qmon (all)")
    options = parser.parse_args()
    if options.serve:
        serve(*options.serve)
        return
    if ground.lacks(["fio"], "nothing measured"):
        return
    asked = options.servers or ["qemu-nbd", "nbdkit", "qmon"]
    names = [name for name in asked if name == "qmon" or not ground.lacks([name], f"without {name}")]
    figures: dict[tuple[str, str], list[float]] = {}
    with ground.folder(options.size) as folder:
        image = folder / "disk.img"
        size = options.size << 20
        with image.open("wb") as file:
            for _ in range(options.size):
                file.write(os.urandom(1 << 20))
        for _ in range(options.rounds):
            for name in names:
                with running(name, folder, str(image)) as path:
                    for job, (rw, block, depth, figure) in JOBS.items():
                        value = measure(path, rw, block, depth, figure, size, options.seconds)
                        figures.setdefault((name, job), []).append(value)
    report(names, figures)


def report(names: list[str], figures: dict[tuple[str, str], list[float]]) -> None:
    """Print the medians, and how many times those of the first server each is."""
    print(f"{'':24}" + "".join(f"{name:>20}" for name in names))
    for job in JOBS:
        medians = [statistics.median(figures[name, job]) for name in names]
        unit = 1e6 if "MB/s" in job else 1
        cells = (f"{median / unit:10,.0f} ({median / medians[0]:5.2f}x)" for median in medians)
        print(f"{job:24}" + "".join(f"{cell:>20}" for cell in cells))
    columns: list[Column] = []
    rows: list[tuple[str, list[float]]] = [(name, []) for name in names]
    for job in JOBS:
        is_rate = "MB/s" in job
        columns += [Column(job if is_rate else f"{job}, requests/s", "{:,.0f}", True)]
        columns += [Column(f"of {names[0]}'s")]
        medians = [statistics.median(figures[name, job]) / (1e6 if is_rate else 1) for name in names]
        for (_, row), median in zip(rows, medians, strict=True):
            row += [median, median / medians[0]]
    results.keep("nbd", "fio's nbd engine over a Unix socket, an image of random data", columns, rows)


if __name__ == "__main__":
    main()

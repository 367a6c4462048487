"""A large sparse image against a small full one that holds as much: time, bytes sent and memory, in one run.

    python -m bench.sparse [--size-gib 64] [--held-mib 64] [--runs 5]

Each run moves both, one after the other, by TCP on loopback into an empty image; "memory" is the most that a
process had resident. After each move the two images are compared.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from bench import ground, results
from bench.results import Column
from tests.support.hmp_client import HmpClient
from tests.support.ports import free_port

QMON = [sys.executable, "-m", "qmon"]
POLL_SECONDS = 0.005
PIECE = 1 << 20


def fill(path: Path, size: int, held: int) -> None:
    """Make an image of ``size`` bytes with ``held`` bytes of data in pieces of 1 MiB, spread evenly."""
    with path.open("wb") as file:
        file.truncate(size)
        for number in range(held // PIECE):
            file.seek(size * PIECE // held * number)
            file.write(os.urandom(PIECE))


def equal(one: Path, other: Path) -> bool:
    """Whether both hold the same where either holds anything."""
    with one.open("rb", buffering=0) as left, other.open("rb", buffering=0) as right:
        for file in (left, right):
            position = 0
            while True:
                try:
                    position = os.lseek(file.fileno(), position, os.SEEK_DATA)
                except OSError:  # ENXIO: no data behind here
                    break
                if os.pread(left.fileno(), PIECE, position) != os.pread(right.fileno(), PIECE, position):
                    return False
                position += PIECE
    return one.stat().st_size == other.stat().st_size


def peak_mib(pid: int) -> float:
    """The most memory that a process has had resident (proc(5), VmHWM)."""
    return int(Path(f"/proc/{pid}/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def move(folder: Path, image: Path, port: int) -> tuple[float, float, float]:
    """Move an image; return seconds until both sides say that it is there, and the MiB of both processes."""
    target = folder / "target.img"
    target.unlink(missing_ok=True)
    with target.open("wb") as file:
        file.truncate(image.stat().st_size)
    with ExitStack() as stack:
        processes, monitors = [], []
        uri = f"tcp:127.0.0.1:{port}"
        for path, more in ((target, ["-incoming", uri]), (image, [])):
            monitor = path.with_suffix(".sock")
            state = [
                "-statedir",
                str(folder / f"state-{port}"),
            ]  # a new one: in the old one the disk has moved
            options = ["-drive", f"file={path},id=d0,format=raw,if=none", *state]
            process = subprocess.Popen(
                [*QMON, *options, "-monitor", f"unix:{monitor},server,nowait", *more],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
            stack.callback(process.wait, 10)
            stack.callback(process.terminate)
            processes.append(process)
            monitors.append(stack.enter_context(HmpClient(monitor)))
        arrived, source = monitors
        source.command("migrate_set_parameter max-bandwidth 100G")
        begun = time.monotonic()
        source.command(f"migrate -d blk {uri}")
        while "completed" not in (status := source.command("info migrate")):
            if "failed" in status:
                raise RuntimeError(status)
            time.sleep(POLL_SECONDS)
        while "inmigrate" in arrived.command("info status"):
            time.sleep(POLL_SECONDS)
        took = time.monotonic() - begun
        if not equal(image, target):
            raise RuntimeError(f"{image.name}: the images differ")
        return took, peak_mib(processes[1].pid), peak_mib(processes[0].pid)


def main() -> int:
    """Run it; print each run, the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-gib", type=int, default=64)
    parser.add_argument("--held-mib", type=int, default=64)
    parser.add_argument("--runs", type=int, default=5)
    options = parser.parse_args()
    held = options.held_mib << 20
    names = {"small": f"{options.held_mib} MiB, full", "large": f"{options.size_gib} GiB, sparse"}
    seconds: dict[str, list[float]] = {name: [] for name in names}
    most = dict.fromkeys(names, 0.0)
    with ground.folder(3 * options.held_mib) as folder:
        fill(folder / "small.img", held, held)
        fill(folder / "large.img", options.size_gib << 30, held)
        for run in range(options.runs):
            for kind, what in names.items():
                took, source, target = move(folder, folder / f"{kind}.img", free_port())
                seconds[kind].append(took)
                most[kind] = max(most[kind], source, target)
                memory = f"memory {source:.0f} MiB at the source, {target:.0f} MiB at the destination"
                print(f"run {run + 1}: {what:14} {took:6.3f} s, {memory}", flush=True)
    for kind, what in names.items():
        print(f"{what:14} median {statistics.median(seconds[kind]):.3f} s")
    ratios = [large / small for small, large in zip(seconds["small"], seconds["large"], strict=True)]
    print(f"sparse takes {statistics.median(ratios):.2f} times as long (median of {len(ratios)} pairs)")
    print(f"most memory {max(most.values()):.0f} MiB")
    rows = [
        (what, [statistics.median(seconds[kind]), ratio, most[kind]])
        for (kind, what), ratio in zip(names.items(), (1, statistics.median(ratios)), strict=True)
    ]
    columns = [
        Column("median, s", plotted=True),
        Column("of the full image's time"),
        Column("most memory of a process, MiB", "{:.0f}", True),
    ]
    what = (
        f"images that hold {options.held_mib} MiB, moved into an empty image; {options.runs} pairs of moves"
    )
    results.keep("sparse", what, columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

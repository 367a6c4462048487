"""Moves a disk of random data in tmpfs, by qmon and by QEMU 7.2's ``migrate -b``, in turn in one run.

    python -m bench.migrate [--size-mib 1024] [--runs 5]

Both sides of each run are processes of their own on this machine, joined by TCP on loopback, with
``max-bandwidth`` out of the way; QEMU gets ``downtime-limit`` 1, without which it does not send everything.
After each run the two images are compared. Needs qemu-system-x86_64 with ``-b`` (7.2 to 9.0).
"""

from __future__ import annotations

import argparse
import filecmp
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from bench import ground, results
from bench.results import Column
from tests.support.hmp_client import HmpClient
from tests.support.ports import free_port

QMON = [sys.executable, "-m", "qmon"]
QEMU = ["qemu-system-x86_64", "-M", "pc", "-nodefaults", "-display", "none", "-S"]
BANDWIDTH = "100G"
POLL_SECONDS = 0.01


def drive(path: Path) -> list[str]:
    """The option that names an image as drive d0."""
    return ["-drive", f"file={path},id=d0,format=raw,if=none"]


def qmon_pair(folder: Path, source: Path, target: Path, port: int) -> float:
    """One move by qmon; returns seconds from the command until both sides say that it is there."""
    state = ["-statedir", str(folder / f"state-{port}")]  # a new one: in the old one the disk has moved
    return run_pair(
        folder,
        [*QMON, *drive(source), *state],
        [*QMON, *drive(target), *state],
        port,
        f"migrate -d blk tcp:127.0.0.1:{port}",
        [],
    )


def qemu_pair(folder: Path, source: Path, target: Path, port: int) -> float:
    """The same by QEMU."""
    device = ["-device", "virtio-blk,drive=d0"]
    return run_pair(
        folder,
        [*QEMU, *drive(source), *device],
        [*QEMU, *drive(target), *device],
        port,
        f"migrate -d -b tcp:127.0.0.1:{port}",
        ["migrate_set_parameter downtime-limit 1"],
    )


def run_pair(
    folder: Path, source: list[str], target: list[str], port: int, migrate: str, settings: list[str]
) -> float:
    """Start both sides, give the commands, wait for the end. Raises RuntimeError when it failed."""
    processes = [
        subprocess.Popen(
            [*command, "-monitor", f"unix:{folder / name},server,nowait", *more],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        for command, name, more in (
            (target, "target.sock", ["-incoming", f"tcp:127.0.0.1:{port}"]),
            (source, "source.sock", []),
        )
    ]
    try:
        with HmpClient(folder / "target.sock") as arrived, HmpClient(folder / "source.sock") as monitor:
            arrived.command("info status")  # a side that has started wholly, not one that is still at it
            for line in [f"migrate_set_parameter max-bandwidth {BANDWIDTH}", *settings]:
                monitor.command(line)
            begun = time.monotonic()
            monitor.command(migrate)
            while True:
                status = monitor.command("info migrate")
                if "completed" in status:
                    while "inmigrate" in arrived.command("info status"):
                        time.sleep(POLL_SECONDS)
                    return time.monotonic() - begun
                if "failed" in status or "cancelled" in status:
                    raise RuntimeError(status)
                time.sleep(POLL_SECONDS)
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(10)


def prepare(target: Path, size_mib: int, *, allocated: bool) -> None:
    """Make the target image: all of other content, or all of it a hole."""
    if not allocated:
        target.unlink(missing_ok=True)
    with target.open("r+b" if target.exists() else "wb") as file:
        file.truncate(size_mib << 20)
        for _ in range(size_mib if allocated else 0):
            file.write(b"\xa5" * (1 << 20))


def keep(size_mib: int, seconds: dict[str, list[float]], ratios: list[float]) -> None:
    """For the manual."""
    names = {"qmon": "qmon, migrate -d blk", "QEMU": "QEMU 7.2, migrate -d -b"}
    rows = [
        (names[way], [statistics.median(values), min(values), max(values), ratio])
        for (way, values), ratio in zip(seconds.items(), (statistics.median(ratios), 1), strict=True)
    ]
    columns = [
        Column("median, s", plotted=True),
        Column("fastest, s"),
        Column("slowest, s"),
        Column("of QEMU's time"),
    ]
    what = f"{size_mib} MiB of random data, moved into an empty image; {len(ratios)} pairs of moves"
    results.keep("migrate", what, columns, rows)


def main() -> int:
    """Run it; print each run, the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--target", choices=("sparse", "allocated"), default="sparse")
    options = parser.parse_args()
    ways: dict[str, Callable[[Path, Path, Path, int], float]] = {"qmon": qmon_pair, "QEMU": qemu_pair}
    if ground.lacks(QEMU[:1], "without QEMU"):
        del ways["QEMU"]
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    with ground.folder(2 * options.size_mib) as folder:
        source, target = folder / "source.img", folder / "target.img"
        with source.open("wb") as file:
            for _ in range(options.size_mib):
                file.write(os.urandom(1 << 20))
        for run in range(options.runs):
            for way, move in ways.items():
                prepare(target, options.size_mib, allocated=options.target == "allocated")
                took = move(folder, source, target, free_port())
                same = filecmp.cmp(source, target, shallow=False)
                filecmp.clear_cache()
                seconds[way].append(took)
                print(f"run {run + 1}: {way:5} {took:6.2f} s  {'equal' if same else 'DIFFERENT'}", flush=True)
                if not same:
                    return 1
    for way, values in seconds.items():
        rate = options.size_mib / statistics.median(values)
        print(f"{way:5} median {statistics.median(values):.2f} s ({rate:.0f} MiB/s)")
    if "QEMU" in ways:
        ratios = [ours / theirs for ours, theirs in zip(seconds["qmon"], seconds["QEMU"], strict=True)]
        print(f"qmon takes {statistics.median(ratios):.2f} of QEMU's time (median of {len(ratios)} pairs)")
        keep(options.size_mib, seconds, ratios)
    return 0


if __name__ == "__main__":
    sys.exit(main())

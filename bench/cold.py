"""Moves a cold disk from a file on a real file system to another, by qmon and by QEMU 10's mirror, in turn.

    python -m bench.cold [--size-mib 1024] [--runs 3] [--folder .]

Before each move nothing of either image is in the page cache; what is there after it is fincore(1)'s. "to the
disk" counts until the destination's data is on its disk: qmon has flushed it when the migration completes, a
mirror has not. Needs QEMU 10; both images need room in the folder.
"""

from __future__ import annotations

import argparse
import filecmp
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench import ground, movers, results
from bench.migrate import empty, write
from bench.movers import Mover
from bench.results import Column


def make_cold(path: Path) -> None:
    """Leave nothing of a file in the page cache."""
    with path.open("r+b") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def cached_mib(path: Path) -> float:
    """How much of a file is in the page cache, in MiB."""
    command = ["fincore", "--bytes", "--noheadings", "--output", "RES", str(path)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / (1 << 20)


def measure(move: Mover, folder: Path, source: Path, target: Path) -> list[float]:
    """Move once; return the seconds, those to the disk, CPU, and the MiB in the cache of both images."""
    make_cold(source)
    make_cold(target)
    assert cached_mib(source) + cached_mib(target) < 1, "this file system does not drop pages"
    took = move(folder, [source], [target])
    after = cached_mib(source), cached_mib(target)
    begun = time.monotonic()
    with target.open("r+b") as file:
        os.fsync(file.fileno())
    return [took.seconds, took.seconds + time.monotonic() - begun, took.cpu, *after]


def show(way: str, columns: Sequence[Column], figures: Sequence[float]) -> str:
    """A line with the figures of a way."""
    told = (f"{each.title} {each.format.format(one)}" for each, one in zip(columns, figures, strict=True))
    return "  ".join((f"{way:26}", *told))


def main() -> int:
    """Run it; print each run, and the medians in a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=Path())
    options = parser.parse_args()
    ways: dict[str, Mover] = {"qmon, migrate -d blk": movers.qmon}
    if not ground.lacks([movers.QEMU_10[0]], "without the mirror"):
        ways["QEMU 10, blockdev-mirror"] = movers.mirror
    columns = [
        Column("median, s", plotted=True),
        Column("to the disk, s", plotted=True),
        Column("CPU s"),
        Column("source's MiB in the cache", "{:.0f}"),
        Column("destination's", "{:.0f}"),
    ]
    seen: dict[str, list[list[float]]] = {way: [] for way in ways}
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="qmon-bench-") as name:
        folder = Path(name)
        source = write(folder / "source", options.size_mib)
        for run in range(options.runs):
            for way, move in ways.items():
                target = empty(folder / "target", options.size_mib)
                figures = measure(move, folder, source, target)
                seen[way].append(figures)
                told = (
                    f"{c.title} {c.format.format(each)}" for c, each in zip(columns, figures, strict=True)
                )
                print(f"run {run + 1}: {way:26} load {os.getloadavg()[0]:.1f}", *told, sep="  ", flush=True)
                if not filecmp.cmp(source, target, shallow=False):
                    print("DIFFERENT")
                    return 1
    rows = [
        (way, [statistics.median(each) for each in zip(*figures, strict=True)])
        for way, figures in seen.items()
    ]
    for way, medians in rows:
        print(
            f"{way:26}", *(f"{c.title} {c.format.format(m)} " for c, m in zip(columns, medians, strict=True))
        )
    what = f"{options.size_mib} MiB of random data, cold, moved into an empty image; {options.runs} rounds"
    results.keep("cold", what, columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

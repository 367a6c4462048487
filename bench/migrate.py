"""Moves a disk of random data in tmpfs, by qmon and by others, in turn in one run.

    python -m bench.migrate [--size-mib 1024] [--runs 5] [--drives N] [--beside FOLDER]

Both sides of each run are processes of their own on this machine, joined by TCP on loopback, with
``max-bandwidth`` out of the way. "CPU" is that of both sides, for each GiB. After each run the images are
compared. ``--drives`` spreads the data over several disks, ``--beside`` also measures the qmon in a folder:
then only qmon is measured. Needs QEMU 7.2, QEMU 10, nbdkit, nbdcopy and cc; what is missing is left out.
"""

from __future__ import annotations

import argparse
import filecmp
import mmap
import os
import statistics
import sys
from functools import partial
from pathlib import Path

from bench import ground, movers, results
from bench.movers import Move, Mover
from bench.results import Column

WAYS: dict[str, tuple[Mover, tuple[str, ...]]] = {
    "qmon, migrate -d blk": (movers.qmon, ()),
    "QEMU 10, blockdev-mirror": (movers.mirror, (movers.QEMU_10[0],)),
    "QEMU 7.2, migrate -d -b": (movers.qemu_7, (movers.QEMU_7[0],)),
    "nbdcopy to nbdkit": (movers.nbdcopy, ("nbdcopy", "nbdkit")),
    "a loop in C": (movers.c_loop, ("cc",)),
    "a loop in Python": (movers.python_loop, ()),
}


def ways_for(options: argparse.Namespace) -> dict[str, Mover]:
    """The ways to measure."""
    if options.beside is not None:
        code = (
            f"import sys; sys.path.insert(0, {str(options.beside)!r}); from qmon.__main__ import main; main()"
        )
        return {"qmon": movers.qmon, "beside": partial(movers.qmon, qmon=[sys.executable, "-c", code])}
    if options.drives > 1:
        return {f"qmon, {options.drives} drives": movers.qmon}
    return {
        name: mover
        for name, (mover, needs) in WAYS.items()
        if not needs or not ground.lacks(needs, f"without {name}")
    }


def warm(mib: int) -> None:
    """Touch memory and free it: the first run is slower on a virtual machine that gave its memory back."""
    with mmap.mmap(-1, mib << 20) as memory:
        for place in range(0, len(memory), 4096):
            memory[place] = 1


def write(path: Path, mib: int) -> Path:
    with path.open("wb") as file:
        for _ in range(mib):
            file.write(os.urandom(1 << 20))
    return path


def empty(path: Path, mib: int) -> Path:
    path.unlink(missing_ok=True)
    with path.open("wb") as file:
        file.truncate(mib << 20)
    return path


def keep(size_mib: int, moves: dict[str, list[Move]]) -> None:
    """For the manual."""
    first = [each.seconds for each in next(iter(moves.values()))]
    rows = []
    for name, each in moves.items():
        seconds = [move.seconds for move in each]
        cpu = statistics.median(move.cpu for move in each) * 1024 / size_mib
        ratio = statistics.median(ours / theirs for ours, theirs in zip(first, seconds, strict=True))
        rows.append((name, [statistics.median(seconds), min(seconds), max(seconds), cpu, ratio]))
    columns = [
        Column("median, s", plotted=True),
        Column("fastest, s"),
        Column("slowest, s"),
        Column("CPU s a GiB"),
        Column("qmon's time in this"),
    ]
    for name, figures in rows:
        print(
            f"{name:26}",
            *(f"{column.title} {each:.2f} " for column, each in zip(columns, figures, strict=True)),
        )
    what = f"{size_mib} MiB of random data, moved into an empty image; {len(first)} rounds of moves in turn"
    results.keep("migrate", what, columns, rows)


def main() -> int:
    """Run it; print each run, the medians and the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--drives", type=int, default=1)
    parser.add_argument("--beside", type=Path)
    options = parser.parse_args()
    ways = ways_for(options)
    moves: dict[str, list[Move]] = {name: [] for name in ways}
    each = options.size_mib // options.drives
    with ground.folder(2 * options.size_mib) as folder:
        sources = [write(folder / f"source{number}", each) for number in range(options.drives)]
        warm(options.size_mib)
        for run in range(options.runs):
            for way, move in ways.items():
                targets = [empty(folder / f"target{number}", each) for number in range(options.drives)]
                load = os.getloadavg()[0]
                took = move(folder, sources, targets)
                moves[way].append(took)
                same = all(filecmp.cmp(*pair, shallow=False) for pair in zip(sources, targets, strict=True))
                filecmp.clear_cache()
                figures = f"{took.seconds:6.3f} s  CPU {took.cpu:5.2f} s  load {load:.1f}"
                print(f"run {run + 1}: {way:26} {figures}  {'equal' if same else 'DIFFERENT'}", flush=True)
                if not same:
                    return 1
    keep(options.size_mib, moves)
    return 0


if __name__ == "__main__":
    sys.exit(main())

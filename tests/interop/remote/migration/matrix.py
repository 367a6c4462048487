"""Every kind of pair of QEMUs, and every kind of disks: the guest is moved by two consoles, again and again.

    python -m tests.interop.remote.migration.matrix [--times N] [--only WORD]... [--workers N]

Each round moves every kind once. ``--only`` leaves out the kinds without that word in their name.
"""

from __future__ import annotations

import argparse
import collections
import concurrent.futures
import dataclasses
import multiprocessing
import shutil
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from pathlib import Path

from tests.support.peers import exit_without
from tests.support.vms.disks import QCOW2, RAW
from tests.support.vms.machine import Style, Version
from tests.support.vms.moving import move
from tests.support.vms.pair import Pair, Setup

TIMES, WORKERS = 20, 2
OLD, NEW = Version.SEVEN, Version.TEN
VERSIONS = ((NEW, NEW), (OLD, NEW), (OLD, OLD))
STYLES = (Style.VIRTIO, Style.IDE, Style.SCSI, Style.BLOCKDEV)
"""Those that are tried with every kind of disks; the others with raw ones."""
DISKS = ((RAW, False), (QCOW2, False), (QCOW2, True))


def setups() -> list[Setup]:
    """Every kind, with two disks and two CD-ROM drives; some whose sides differ; some that are relayed."""
    alike = [
        Setup(source, destination, style=style, format=format_, disks=2, cdroms=True, inc=inc)
        for source, destination in VERSIONS
        for style in Style
        for format_, inc in (DISKS if style in STYLES else DISKS[:1])
    ]
    differing = [
        Setup(
            source,
            destination,
            style=Style.VIRTIO,
            destination_style=Style.BLOCKDEV,
            format=RAW,
            destination_format=QCOW2,
        )
        for source, destination in VERSIONS
    ]
    relayed = [
        Setup(source, destination, style=Style.VIRTIO, disks=2, by_tcp=True)
        for source, destination in VERSIONS
    ]
    return alike + differing + relayed


@dataclasses.dataclass(frozen=True, slots=True)
class Result:
    name: str
    problems: Sequence[str]
    seconds: float
    folder: str


def one(setup: Setup, folder: str, *, detached: bool) -> Result:
    """Move one guest, in a worker. What a bad end leaves stays in its folder."""
    begun = time.monotonic()
    here = Path(tempfile.mkdtemp(dir=folder))
    try:
        with Pair(here / "pair", setup) as pair:
            problems = move(pair, detached=detached)
    except Exception:  # noqa: BLE001 - a fault of the harness is a bad end, and the others go on
        problems = [traceback.format_exc()]
    if not problems:
        shutil.rmtree(here)
    return Result(str(setup), problems, time.monotonic() - begun, str(here))


def campaign(chosen: Sequence[Setup], times: int, workers: int) -> list[Result]:
    """Move all, and print what went wrong as it happens."""
    folder = Path(tempfile.mkdtemp(prefix="qmon-matrix-"))
    results = []
    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(workers, context) as pool:
        futures = [
            pool.submit(one, setup, str(folder), detached=bool(number % 2))
            for number in range(times)
            for setup in chosen
        ]
        for future in concurrent.futures.as_completed(futures):
            result = future.result()
            results.append(result)
            if result.problems:
                print(f"{result.name}: {'; '.join(result.problems)}  [{result.folder}]", flush=True)
            if len(results) % 10 == 0:
                print(f"{len(results)} of {len(futures)}", flush=True)
    if not any(result.problems for result in results):
        folder.rmdir()
    return results


def summary(results: Sequence[Result]) -> str:
    whole = collections.Counter(result.name for result in results if not result.problems)
    runs = collections.Counter(result.name for result in results)
    rows = [f"{whole[name]:4} of {count:3} whole  {name}" for name, count in runs.items()]
    seconds = [result.seconds for result in results]
    total = f"{whole.total()} of {runs.total()} whole, {min(seconds):.1f} to {max(seconds):.1f} s each"
    return "\n".join([*sorted(rows), total])


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--times", type=int, default=TIMES)
    parser.add_argument("--only", action="append", default=[])
    parser.add_argument("--workers", type=int, default=WORKERS)
    options = parser.parse_args()
    exit_without("qemu-img", *(version.program[0] for version in Version))
    chosen = [setup for setup in setups() if all(word in str(setup) for word in options.only)]
    results = campaign(chosen, options.times, options.workers)
    print(summary(results))
    return int(any(result.problems for result in results))


if __name__ == "__main__":
    sys.exit(main())

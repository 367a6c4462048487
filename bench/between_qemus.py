"""Moves a guest with its disk between two QEMU 10, by qmon's consoles and by hand over QMP, in turn.

    python -m bench.between_qemus [--size-mib 1024] [--runs 5] [--verify off|sample|full]

The guest writes to the disk all the time, and says each number when it is written. The time is from the
order to the first number that it says at the destination; the downtime lies between its last number at the
source and that one. By hand is the plain sequence of QMP commands, without a look before or after. Both sides
are on this machine, joined by TCP on loopback, with ``max-bandwidth`` out of the way and images in memory.
After each move all numbers have to be on the destination's disk.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import astuple, dataclass
from pathlib import Path

from bench import ground, results
from bench.results import Column
from tests.support.images import MIB
from tests.support.vms.by_hand import migrate_by_hand
from tests.support.vms.consoles import Consoles
from tests.support.vms.disks import Filling
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Version
from tests.support.vms.pair import Pair, Setup
from tests.support.vms.watch import Watch
from tests.support.waiting import eventually

QEMU = "/opt/qemu10/run"
WARM_UP_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Outcome:
    """One move: seconds, the guest's numbers a second meanwhile, and how long it stood still."""

    seconds: float
    numbers: float
    downtime: float


def by_hand(pair: Pair) -> Callable[[], None]:
    """Get ready; return what moves the guest."""

    def move() -> None:
        migrate_by_hand(pair.source.qmp_path, pair.destination.qmp_path)

    return move


def by_consoles(pair: Pair, consoles: Consoles, verify: str) -> Callable[[], None]:
    """Get ready; return what moves the guest."""
    consoles.wait_listening()
    consoles.source.type(f"migrate_set_parameter x-qmon-verify-copy {verify}", "info status")
    consoles.source.wait_for("VM status")

    def move() -> None:
        consoles.source.type(consoles.line)
        eventually(
            lambda: pair.destination.said_size() > 0 or not consoles.source.is_alive(),
            "the guest counts at the destination",
        )

    return move


def measure(folder: Path, size: int, verify: str | None, version: Version = Version.TEN) -> Outcome:
    """Move a new guest once; None: by hand. Exits the program if a number is lost."""
    shutil.rmtree(folder, ignore_errors=True)
    with Pair(folder, Setup(version, version, filling=Filling(size, size // 2))) as pair:
        pair.source.look.run("migrate-set-parameters", max_bandwidth=0)
        pair.before.clear()
        pair.__enter__()
        if verify is None:
            outcome = timed(pair, by_hand(pair))
        else:
            with Consoles(pair) as consoles:
                outcome = timed(pair, by_consoles(pair, consoles, verify))
                if consoles.source.wait():
                    sys.exit(consoles.source.printed())
        if problems := judge(pair, pair.destination):
            sys.exit("\n".join(problems))
        return outcome


def timed(pair: Pair, move: Callable[[], None]) -> Outcome:
    with Watch(pair) as watch:
        time.sleep(WARM_UP_SECONDS)
        begun = time.monotonic()
        move()
        eventually(lambda: pair.destination.said_size() > 0, "the guest counts at the destination")
        ended = time.monotonic()
    downtime = watch.downtime()
    numbers = watch.numbers_a_second(begun, ended - downtime)
    return Outcome(ended - begun, numbers, downtime)


def main() -> int:
    """Run it; print each run, the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--size-mib", type=int, default=1024)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--verify", choices=("off", "sample", "full"), default="sample")
    options = parser.parse_args()
    if ground.lacks([QEMU], "not measured"):
        return 1
    ways = {"consoles": options.verify, "by hand": None}
    found: dict[str, list[Outcome]] = {way: [] for way in ways}
    with ground.folder(2 * options.size_mib) as folder:
        for run in range(options.runs):
            for way, verify in ways.items():
                one = measure(folder / "pair", options.size_mib * MIB, verify)
                found[way].append(one)
                print(
                    f"run {run + 1}: {way:8} {one.seconds:6.2f} s, {one.numbers:6.0f} numbers a second,"
                    f" downtime {one.downtime * 1000:4.0f} ms",
                    flush=True,
                )
    pairs = zip(found["consoles"], found["by hand"], strict=True)
    ratio = statistics.median(ours.seconds / theirs.seconds for ours, theirs in pairs)
    print(f"the consoles take {ratio:.2f} of the time by hand (median of {options.runs} pairs)")
    rows = [
        (name, [*map(statistics.median, zip(*map(astuple, found[way]), strict=True)), of])
        for way, name, of in (
            ("consoles", f"qmon's consoles, verify-copy {options.verify}", ratio),
            ("by hand", "QMP commands by hand", 1.0),
        )
    ]
    rows = [(name, [seconds, numbers, still * 1000, of]) for name, (seconds, numbers, still, of) in rows]
    columns = [
        Column("median, s", plotted=True),
        Column("numbers a second", "{:.0f}"),
        Column("downtime, ms", "{:.0f}"),
        Column("of the time by hand"),
    ]
    what = (
        f"A guest with a disk of {options.size_mib} MiB, half of it random data, that writes all the time;"
        f" {options.runs} pairs of moves"
    )
    results.keep("between_qemus", what, columns, rows)
    return 0


if __name__ == "__main__":
    sys.exit(main())

"""Damaged qcow2 images, thousands of them: refused, or read and written as QEMU does it.

    python -m tests.fuzz.qcow2 [--seed S] [--images N]

Image ``i`` of seed S is image 0 of seed S + i.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import random
import sys
import tempfile
from functools import partial
from pathlib import Path

from tests.fuzz.qcow2_shapes import SHAPES, make
from tests.fuzz.qcow2_trial import Result, try_out
from tests.support.peers import exit_without

WORKERS = 2
_TOLD_EVERY = 1000


def make_all(folder: Path) -> None:
    """An image of each shape, in folders named by their numbers."""
    for number, shape in enumerate(SHAPES):
        place = folder / str(number)
        place.mkdir()
        make(shape, place)


def one(folder: Path, seed: int) -> tuple[int, Result]:
    """One image; the shapes take turns."""
    return seed, try_out(folder / str(seed % len(SHAPES)), seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000_000))
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--workers", type=int, default=WORKERS)
    parser.add_argument("--messages", action="store_true", help="tell why images are refused that QEMU reads")
    options = parser.parse_args()
    exit_without("qemu-img", "qemu-io")
    print(f"qcow2: seed {options.seed}, {options.images} images", flush=True)
    outcomes: collections.Counter[str] = collections.Counter()
    messages: collections.Counter[str] = collections.Counter()
    broken = 0
    with tempfile.TemporaryDirectory(prefix="qmon-fuzz-") as name:
        make_all(Path(name))
        seeds = range(options.seed, options.seed + options.images)
        with multiprocessing.get_context("fork").Pool(options.workers) as pool:
            for seed, result in pool.imap_unordered(partial(one, Path(name)), seeds, chunksize=4):
                outcomes[result.outcome] += 1
                if outcomes.total() % _TOLD_EVERY == 0:
                    print(f"{outcomes.total()} images, {broken} broke a promise", flush=True)
                if result.outcome == "refused, read by QEMU":
                    messages[f"{result.message}   [{result.what}]"] += 1
                if result.problems:
                    broken += 1
                    print(f"python -m tests.fuzz.qcow2 --images 1 --seed {seed}  # {result.what}")
                    print("    " + "\n    ".join(result.problems), flush=True)
    print(
        f"{outcomes.total()} images, {broken} broke a promise; "
        + ", ".join(f"{name}: {n}" for name, n in sorted(outcomes.items()))
    )
    if options.messages:
        print("\n".join(sorted(messages)))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

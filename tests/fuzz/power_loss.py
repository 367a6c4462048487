"""Power failures while qcow2 images are used, thousands: what was flushed is there, and the images are sound.

    python -m tests.fuzz.power_loss [--seed S] [--runs N]

Run ``i`` of seed S is run 0 of seed S + i; only threads take turns as they like.
"""

from __future__ import annotations

import argparse
import collections
import logging
import multiprocessing
import random
import sys

from tests.fuzz.power_loss_trial import FAILURES, Result, try_out
from tests.support.peers import exit_without

RUNS = 500
WORKERS = 2
_TOLD_EVERY = 100


def one(seed: int) -> tuple[int, Result]:
    return seed, try_out(seed)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000_000))
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--workers", type=int, default=WORKERS)
    options = parser.parse_args()
    exit_without("qemu-img", "qemu-io")
    print(f"power loss: seed {options.seed}, {options.runs} runs, {FAILURES} failures each", flush=True)
    logging.disable()
    kinds: collections.Counter[str] = collections.Counter()
    calls: collections.Counter[str] = collections.Counter()
    broken = runs = 0
    seeds = range(options.seed, options.seed + options.runs)
    with multiprocessing.get_context("fork").Pool(options.workers) as pool:
        for seed, result in pool.imap_unordered(one, seeds):
            runs += 1
            kinds[result.kind] += result.failures
            calls += result.failed_in
            if runs % _TOLD_EVERY == 0:
                print(f"{runs} runs, {kinds.total()} failures, {broken} broke a promise", flush=True)
            if result.problems:
                broken += 1
                print(f"python -m tests.fuzz.power_loss --runs 1 --seed {seed}  # {result.kind}")
                print("    " + "\n    ".join("\n".join(result.problems).splitlines()), flush=True)
    print(f"{runs} runs, {kinds.total()} failures, {broken} runs broke a promise")
    print("images: " + ", ".join(f"{name} {count}" for name, count in sorted(kinds.items())))
    print("in the middle of: " + ", ".join(f"{name} {count}" for name, count in sorted(calls.items())))
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

"""QMP messages at random, right, wrong and garbled: each is answered, and nobody else is disturbed.

    python -m tests.fuzz.qmp [--seed S] [--batches N]

Batch ``i`` of seed S is batch 0 of seed S + i, but for what the batches before it left behind.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.qmp_trial import BATCH, BrokenPromiseError, started

BATCHES_PER_PROGRAM = 25


def run(seed: int, batches: int) -> tuple[int, int]:
    """Return how many answers came, and how many promises were broken."""
    answers = broken = 0
    for first in range(seed, seed + batches, BATCHES_PER_PROGRAM):
        with tempfile.TemporaryDirectory(prefix="qmon-fuzz-") as name:
            number = first
            try:
                with started(Path(name)) as trial:
                    for number in range(first, min(first + BATCHES_PER_PROGRAM, seed + batches)):
                        answers += trial.batch(number)
            except (BrokenPromiseError, OSError) as error:
                broken += 1
                print(f"seed {number} (from {first}): {error}", flush=True)
    return answers, broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000_000))
    parser.add_argument("--batches", type=int, default=1000)
    options = parser.parse_args()
    print(f"qmp: seed {options.seed}, {options.batches} batches of {BATCH} messages", flush=True)
    answers, broken = run(options.seed, options.batches)
    print(f"{answers} answers, {broken} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

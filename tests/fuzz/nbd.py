"""Recorded sessions of libnbd and QEMU 10, damaged at random: nothing of the server is disturbed.

    python -m tests.fuzz.nbd [--seed S] [--sessions N]

Session ``i`` of seed S is session 0 of seed S + i, but for what the sessions before it left behind.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.nbd_trial import BrokenPromiseError, started

SESSIONS_PER_PROGRAM = 500


def run(seed: int, sessions: int) -> int:
    """Return how many promises were broken."""
    broken = 0
    for first in range(seed, seed + sessions, SESSIONS_PER_PROGRAM):
        with tempfile.TemporaryDirectory(prefix="qmon-fuzz-") as name:
            number = first
            try:
                with started(Path(name)) as trial:
                    for number in range(first, min(first + SESSIONS_PER_PROGRAM, seed + sessions)):
                        trial.play(number)
            except (BrokenPromiseError, OSError, AssertionError) as error:
                broken += 1
                print(f"seed {number} (from {first}): {error}", flush=True)
    return broken


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1_000_000_000))
    parser.add_argument("--sessions", type=int, default=5000)
    options = parser.parse_args()
    print(f"nbd: seed {options.seed}, {options.sessions} sessions", flush=True)
    broken = run(options.seed, options.sessions)
    print(f"{options.sessions} sessions, {broken} broken promises")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())

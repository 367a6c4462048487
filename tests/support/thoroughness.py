"""How much of what is open-ended is tried: a sample in ``make check``, all of it in ``make thorough``."""

from __future__ import annotations

import os
import random
from collections import defaultdict
from collections.abc import Sequence

import pytest

THOROUGH = os.environ.get("QMON_THOROUGH") == "1"

SHARE, FEWEST = 5, 4
"""A sample of examples is one part of so many, and not fewer than that."""


def examples(all_of_them: int) -> int:
    """How many examples of Hypothesis are tried now."""
    return all_of_them if THOROUGH else max(min(FEWEST, all_of_them), all_of_them // SHARE)


def a_chance(name: str) -> random.Random:
    """Chance, that tries the same each time; in ``make thorough`` another, and a test that fails shows which.

    ``name`` tells one use from another.
    """
    seed = f"{name} {random.SystemRandom().randrange(1 << 32)}" if THOROUGH else name
    print(f"seed {seed!r}")
    return random.Random(seed)


def left_out(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """The cases that are not tried now, of tests that are marked with ``sample(COUNT)``.

    So many of a test's cases are tried, always the same. One that is named at the command line is among them.
    """
    if THOROUGH:
        return set()
    cases: dict[tuple[str, int], list[pytest.Item]] = defaultdict(list)
    for item in items:
        for mark in item.iter_markers("sample"):
            cases[item.nodeid.partition("[")[0], *mark.args].append(item)
    out: set[pytest.Item] = set()
    for (name, count), each in cases.items():
        out.update(random.Random(name).sample(each, max(0, len(each) - count)))
    return out

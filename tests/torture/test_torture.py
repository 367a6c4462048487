"""A few of the runs that ``make torture`` does by the hundred: nothing that happens loses a byte or hangs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peers import require
from tests.torture.campaign import campaign, failure, seed_of_sample, summary


@pytest.mark.parametrize(
    ("kind", "runs", "first"),
    [
        ("proxy", 8, 1),
        ("kill", 6, 1),
        ("slow", 1, 7),
        ("exec", 2, 1),
        ("multifd", 2, 2),
        ("blocking", 2, 2),
        ("recover", 2, 2),
        ("forward", 3, 4),
    ],
)
def test_whatever_breaks_at_most_one_side_runs_with_every_acknowledged_write(
    tmp_path: Path, kind: str, runs: int, first: int
) -> None:
    require("qemu-img", "socat", "nbdinfo")
    seed = seed_of_sample(first)
    print(f"{kind}: seed {seed}")
    results = list(campaign(kind, seed, runs, tmp_path / "runs"))
    print(summary(kind, results))
    assert len(results) == runs
    broken = [failure(kind, result) for result in results if result.problems]
    assert not broken, "\n".join(broken)

"""A few of the runs that ``make torture`` does by the hundred: another disk is refused, the same one taken.

QMON_SHARED_RUNS in the environment says how many.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.support.hosts import NoHostsError, loop_device, two_hosts
from tests.support.peers import lack, require
from tests.torture.campaign import seed_of_sample
from tests.torture.shared import RUNS, campaign, summary

COUNT = int(os.environ.get("QMON_SHARED_RUNS", "2"))


@pytest.mark.parametrize("kind", RUNS)
def test_two_hosts_without_blk(tmp_path: Path, kind: str) -> None:
    require("qemu-img")
    try:
        with two_hosts(tmp_path), loop_device(Path(__file__)):
            pass
    except NoHostsError as error:
        lack(f"two hosts on one machine ({error})")
    seed = seed_of_sample(1)
    results = list(campaign(kind, seed, COUNT, tmp_path))
    print(summary(kind, results))
    assert len(results) == COUNT
    wrong = [f"{each.case}: {each.problem}" for each in results if each.problem]
    assert not wrong, "\n".join(wrong)

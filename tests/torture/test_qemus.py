"""Guests of real QEMUs that are moved while something fails; ``make torture-qemu`` does it by the hundred."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.peer import QEMU_10
from tests.support.peers import require
from tests.support.vms.pair import Setup
from tests.torture.qemus.scenario import DESTINATION, LOOKED_ON, SOURCE, Fault, Scenario, What
from tests.torture.qemus.trial import try_out
from tests.torture.qemus.watch import AtEvent


@pytest.fixture(autouse=True)
def programs() -> None:
    require("qemu-img", "qemu-system-x86_64", QEMU_10[0])


@pytest.mark.timeout(180)
def test_a_destination_that_dies_while_disks_are_copied_leaves_the_guest_running(tmp_path: Path) -> None:
    place = AtEvent(SOURCE, "JOB_STATUS_CHANGE", "running")
    fault = Fault(What.KILL_QEMU, place, victims=(DESTINATION,))
    result = try_out(Scenario(1, Setup(options=LOOKED_ON), (fault,)), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "runs at the source"

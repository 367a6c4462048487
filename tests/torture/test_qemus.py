"""Guests of real QEMUs that are moved while something fails; ``make torture-qemu`` does it by the hundred."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from tests.support.peer import QEMU_10
from tests.support.peers import require
from tests.support.vms.machine import Version
from tests.support.vms.pair import Setup
from tests.torture.campaign import QEMUS, campaign, failure, seed_of_sample, summary
from tests.torture.qemus.line import Kind
from tests.torture.qemus.scenario import DESTINATION, LOOKED_ON, SOURCE, Fault, Scenario, What
from tests.torture.qemus.trial import try_out
from tests.torture.qemus.watch import AtEvent


@pytest.fixture(autouse=True)
def programs() -> None:
    require("qemu-img", "qemu-system-x86_64", QEMU_10[0])


def test_whatever_fails_one_guest_runs_at_most_and_no_number_is_lost() -> None:
    runs, seed = 1, seed_of_sample(15)
    print(f"{QEMUS}: seed {seed}")
    with tempfile.TemporaryDirectory(prefix="qmon-torture-") as folder:  # a socket's path must be short
        results = list(campaign(QEMUS, seed, runs, Path(folder)))
    print(summary(QEMUS, results))
    assert len(results) == runs
    broken = [failure(QEMUS, result) for result in results if result.problems]
    assert not broken, "\n".join(broken)


def test_a_destination_that_dies_while_disks_are_copied_leaves_the_guest_running(tmp_path: Path) -> None:
    place = AtEvent(SOURCE, "JOB_STATUS_CHANGE", "running")
    fault = Fault(What.KILL_QEMU, place, victims=(DESTINATION,))
    result = try_out(Scenario(1, Setup(options=LOOKED_ON), (fault,)), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "runs at the source"


def of_seven(*faults: Fault) -> Scenario:
    """Between two QEMU 7.2, a guest that writes all the time."""
    setup = Setup(source=Version.SEVEN, destination=Version.SEVEN, burst=0, options=LOOKED_ON)
    return Scenario(1, setup, faults)


def test_a_disk_s_line_that_stalls_while_the_consoles_talk_does_not_hold_the_guest(tmp_path: Path) -> None:
    fault = Fault(What.STALL, AtEvent(SOURCE, "MIGRATION", "setup"), kinds=frozenset({Kind.DISK}))
    result = try_out(of_seven(fault), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "runs at the source"


def test_a_destination_does_not_wait_for_a_source_whose_migration_has_failed(tmp_path: Path) -> None:
    beginning, disk = AtEvent(SOURCE, "MIGRATION", "setup"), frozenset({Kind.DISK})
    console = Fault(What.KILL_CONSOLE, AtEvent(SOURCE, "STOP"), 0.5, victims=(DESTINATION,))
    result = try_out(of_seven(Fault(What.STALL, beginning, kinds=disk), console), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "runs at the source"


def test_a_destination_that_is_used_up_exports_nothing(tmp_path: Path) -> None:
    fault = Fault(What.KILL_CONSOLE, AtEvent(SOURCE, "MIGRATION", "active"), victims=(SOURCE,))
    result = try_out(Scenario(1, Setup(options=LOOKED_ON), (fault,)), tmp_path / "run")
    assert result.problems == []
    assert result.outcome == "runs at the source"

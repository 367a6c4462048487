"""A migration that is called off while it copies leaves nothing, and the next one arrives."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.vms.consoles import Consoles
from tests.support.vms.judgement import judge
from tests.support.vms.leftovers import leftovers, standing
from tests.support.vms.machine import Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import PATIENCE, eventually

SLOW, FAST = 1 << 17, 1 << 30


def set_bandwidth(pair: Pair, bandwidth: int) -> None:
    """Set the source's limit by the test's connection, as somebody had set it before."""
    pair.source.look.run("migrate-set-parameters", max_bandwidth=bandwidth)
    pair.before = {machine.name: standing(machine) for machine in pair.machines}


@pytest.mark.sample(1)
@pytest.mark.parametrize("version", Version, ids=lambda version: version.value)
def test_a_copy_that_was_called_off_can_be_begun_again(version: Version, tmp_path: Path) -> None:
    with (
        Pair(tmp_path / "pair", Setup(version, version, disks=2)) as pair,
        Consoles(pair, options=["-keep-going"]) as consoles,
    ):
        source = consoles.source
        consoles.wait_listening()
        source.type("info status")
        source.wait_for("VM status: running")
        set_bandwidth(pair, SLOW)
        source.type(consoles.line.replace("migrate", "migrate -d"))
        eventually(lambda: pair.source.look.run("query-block-jobs"), "the disks are copied", 3 * PATIENCE)
        source.type("migrate_cancel", "wait migrate", "info migrate")
        source.wait_for("Migration status: cancelled")
        consoles.destination.type("wait migrate")
        consoles.destination.wait_for("Error: the source has called the migration off\n")
        for machine in pair.machines:
            assert leftovers(machine, pair.before[machine.name], PATIENCE) == []
        pair.source.wait_to_count()
        set_bandwidth(pair, FAST)
        source.type(consoles.line, "info migrate")
        source.wait_for("Migration status: completed")
        consoles.destination.type("wait migrate", "info status")
        consoles.destination.wait_for("VM status: running")
        for script in (source, consoles.destination):
            script.wait()
        assert judge(pair, pair.destination) == []

"""The plain sequence of QMP commands moves a guest, and the judgement of it sees what goes wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from tests.support.vms.by_hand import migrate_by_hand
from tests.support.vms.judgement import judge
from tests.support.vms.leftovers import leftovers
from tests.support.vms.machine import Machine, Style, Version
from tests.support.vms.pair import Pair, Setup
from tests.support.vms.watch import Watch
from tests.support.waiting import PATIENCE, eventually

OLD, NEW = Version.SEVEN, Version.TEN

SETUPS = [
    Setup(NEW, NEW),
    Setup(OLD, OLD, style=Style.IDE, format="qcow2", disks=2, cdroms=True),
    Setup(OLD, NEW, style=Style.SCSI, destination_style=Style.BLOCKDEV_SCSI, format="qcow2", inc=True),
]


def by_hand(pair: Pair) -> None:
    migrate_by_hand(pair.source.qmp_path, pair.destination.qmp_path, inc=pair.setup.inc)


@pytest.mark.parametrize("setup", SETUPS, ids=str)
def test_a_guest_is_moved_whole(setup: Setup, tmp_path: Path) -> None:
    with Pair(tmp_path / "pair", setup) as pair:
        by_hand(pair)
        assert judge(pair, pair.destination) == []


def test_the_guest_itself_shows_how_long_it_stood_still(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair", Setup(burst=0)) as pair:
        with Watch(pair) as watch:
            begun, before = time.monotonic(), pair.source.said_size()
            pair.source.wait_to_count(100)
            eventually(lambda: watch.numbers_a_second(begun, time.monotonic()) > 0, "numbers are seen")
            counted = time.monotonic()
            seen = watch.numbers_a_second(begun, counted) * (counted - begun)
            last = pair.source.said_size()
            by_hand(pair)
            pair.destination.wait_to_count(100)
        assert 1 <= round(seen) <= (last - before) // 5
        assert watch.downtime() > 0
        assert watch.longest_silence(begun, time.monotonic()) >= watch.downtime()


def test_two_guests_are_seen(tmp_path: Path) -> None:
    with Pair(tmp_path / "pair") as pair:
        by_hand(pair)
        pair.source.look.run("cont")
        (problem,) = judge(pair, settled=PATIENCE)
        assert problem == "the guest counts on at source and destination, not at one place"
        pair.source.look.run("stop")
        (problem,) = judge(pair)
        assert problem.startswith("the guest said ")


def break_sector(machine: Machine, sector: int) -> None:
    with machine.images[0].path.open("r+b") as file:
        file.seek(sector * 512)
        file.write(b"broken")


def test_what_is_broken_is_seen(tmp_path: Path) -> None:
    """Each disk and each QEMU is looked at, and the place where the guest counts."""
    with Pair(tmp_path / "pair", Setup(disks=2)) as pair:
        by_hand(pair)
        assert judge(pair, pair.source) == ["the guest counts on at destination, not at source"]
        pair.destination.wait_to_count()
        for machine in pair.machines:
            assert leftovers(machine, pair.before[machine.name], PATIENCE) == []
        break_sector(pair.destination, pair.setup.counting.sector_of(7))
        break_sector(pair.destination, 40_000)
        pair.source.look.run("blockdev-add", driver="null-co", node_name="qmon-target0", size=512)
        pair.destination.look.run("object-add", qom_type="iothread", id="qmon-object")
        problems = judge(pair, patience=0.2)
        assert problems[:2] == [
            "source: node qmon-target0 is left",
            "destination: object qmon-object is left",
        ]
        assert "1 of " in problems[2]
        assert problems[2].endswith("acknowledged numbers are lost, 7 is the first")
        assert problems[3].endswith("byte 20480000, which the guest never wrote, has changed")
        assert len(problems) == 4

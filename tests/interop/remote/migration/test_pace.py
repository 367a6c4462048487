"""Limits and convergence of a guest's move, with two consoles on real QEMUs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.support.images import MIB
from tests.support.ports import free_port
from tests.support.vms.consoles import Consoles
from tests.support.vms.disks import Filling
from tests.support.vms.judgement import judge
from tests.support.vms.line import Line
from tests.support.vms.machine import Version
from tests.support.vms.pair import Pair, Setup
from tests.support.waiting import eventually

PATIENCE = 90.0

VERSIONS = pytest.mark.parametrize("version", Version, ids=lambda version: version.value)


@contextmanager
def moving(folder: Path, setup: Setup, *, delay: float = 0.0) -> Iterator[tuple[Pair, Consoles, Line]]:
    """Yield a pair with consoles on both sides, and the line between them."""
    with Pair(folder / "pair", setup) as pair:
        told = free_port()
        with (
            Consoles(pair, told_port=told) as consoles,
            Line(consoles.port, told, delay=delay) as line,
        ):
            consoles.wait_listening()
            yield pair, consoles, line


def busy(version: Version) -> Setup:
    """A guest that hardly rests."""
    return Setup(source=version, destination=version, burst=200)


def follow(line: Line, limit: int) -> None:
    """Check for some seconds that a limit holds, and wait until most of it is used.

    A busy machine holds bytes back, and passes them a moment later: so all since the beginning count.
    """
    begun, before = time.monotonic(), line.passed
    passed, at = before, begun
    is_used = False
    while at - begun < 5 or not is_used:
        assert at - begun < PATIENCE, "the limit is not used"
        time.sleep(1)
        earlier, former, passed, at = passed, at, line.passed, time.monotonic()
        assert passed - before <= 1.05 * limit * (at - begun) + limit
        is_used |= passed - earlier >= limit * 0.5 * (at - former)


def arrive(pair: Pair, consoles: Consoles) -> None:
    """Wait until both consoles have ended, and judge the guest."""
    for console in (consoles.source, consoles.destination):
        assert console.wait(PATIENCE) == 0, console.printed()
    assert judge(pair, pair.destination) == []


def test_a_guest_that_never_lets_its_disk_converge_arrives_write_blocking(tmp_path: Path) -> None:
    setup = Setup(filling=Filling(noise=MIB), burst=200)
    with moving(tmp_path, setup) as (pair, consoles, _):
        # One chunk of the mirror's (64 KiB) takes 250 ms, ten times what fits into the downtime. Even a guest
        # that is slow writes to its one hot sector again within that time.
        consoles.source.type(
            "migrate_set_parameter max-bandwidth 256k", "migrate_set_parameter downtime-limit 50"
        )
        consoles.source.type(f"migrate -d {consoles.line.removeprefix('migrate ')}")
        told = "Drive 'd0' did not converge: it is copied write-blocking from now on. Each write of the guest"
        eventually(lambda: told in consoles.source.printed(), "the switch is told", PATIENCE)
        consoles.source.type(
            "migrate_set_parameter max-bandwidth 128M", "migrate_set_parameter downtime-limit 300"
        )
        consoles.source.type("wait migrate")
        arrive(pair, consoles)


def test_a_qemu_that_cannot_switch_is_advised_and_starts_the_copy_anew(tmp_path: Path) -> None:
    with moving(tmp_path, busy(Version.SEVEN), delay=0.3) as (pair, consoles, _):
        consoles.source.type(f"migrate -d {consoles.line.removeprefix('migrate ')}")
        advised = "'migrate_set_parameter x-qmon-copy-mode write-blocking' would help"
        eventually(lambda: advised in consoles.source.printed(), "the advice is shown", PATIENCE)
        consoles.source.type("migrate_set_parameter x-qmon-copy-mode write-blocking", "wait migrate")
        arrive(pair, consoles)
        assert "The copy of drive 'd0' starts anew, write-blocking." in consoles.source.printed()


@pytest.mark.sample(1)
@VERSIONS
def test_the_bandwidth_holds_for_all_disks_together_and_can_be_changed(
    tmp_path: Path, version: Version
) -> None:
    setup = Setup(source=version, destination=version, disks=2, filling=Filling(256 * MIB, 120 * MIB))
    with moving(tmp_path, setup) as (pair, consoles, line):
        consoles.source.type(
            "migrate_set_parameter max-bandwidth 4M", f"migrate -d {consoles.line.removeprefix('migrate ')}"
        )
        follow(line, 4 * MIB)
        consoles.source.type("migrate_set_parameter max-bandwidth 8M")
        follow(line, 8 * MIB)
        consoles.source.type("migrate_set_parameter max-bandwidth 128M", "wait migrate")
        arrive(pair, consoles)


@VERSIONS
def test_a_cancel_does_not_wait_for_what_a_limit_holds_back(tmp_path: Path, version: Version) -> None:
    setup = Setup(source=version, destination=version, filling=Filling(64 * MIB, 30 * MIB))
    with moving(tmp_path, setup) as (pair, consoles, line):
        consoles.source.type("migrate_set_parameter max-bandwidth 64k")
        consoles.source.type(f"migrate -d {consoles.line.removeprefix('migrate ')}")
        eventually(lambda: line.passed > 100_000, "the copy has begun", PATIENCE)
        consoles.source.type("migrate_cancel", "migrate_set_parameter max-bandwidth 128M")
        assert consoles.source.wait(PATIENCE) == 1, consoles.source.printed()
        consoles.destination.kill()
        assert judge(pair, pair.source) == []

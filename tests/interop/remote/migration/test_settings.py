"""Migration settings that somebody has left in a QEMU neither break a move nor are lost by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.vms.consoles import Consoles
from tests.support.vms.judgement import judge
from tests.support.vms.machine import Machine, Version
from tests.support.vms.pair import Pair, Setup

SETS = [
    (Version.SEVEN, "multifd zero-copy-send block x-ignore-shared dirty-bitmaps"),
    (Version.SEVEN, "postcopy-ram release-ram compress"),
    (Version.TEN, "multifd mapped-ram x-ignore-shared dirty-bitmaps"),
    (Version.TEN, "postcopy-ram postcopy-preempt release-ram"),
]
"""Capabilities that can be on at the same time. Alone, most of them make a migration fail."""


def switch(machine: Machine, names: str, *, on: bool) -> None:
    states = [{"capability": name, "state": on} for name in names.split()]
    machine.look.run("migrate-set-capabilities", capabilities=states)


@pytest.mark.sample(4)
@pytest.mark.parametrize("side", ["source", "destination"])
@pytest.mark.parametrize(
    ("version", "names"), SETS, ids=[f"{version.value}-{names.split()[0]}" for version, names in SETS]
)
def test_a_guest_moves_although_a_capability_is_on_that_would_break_it(
    tmp_path: Path, version: Version, names: str, side: str
) -> None:
    with Pair(tmp_path, Setup(source=version, destination=version)) as pair:
        machine = pair.source if side == "source" else pair.destination
        switch(machine, names, on=True)
        before = machine.look.run("query-migrate-capabilities")
        with Consoles(pair) as consoles:
            consoles.wait_listening()
            consoles.source.type(consoles.line)
            assert consoles.source.wait() == 0, consoles.source.printed()
            assert consoles.destination.wait() == 0, consoles.destination.printed()
        assert machine.look.run("query-migrate-capabilities") == before
        switch(machine, names, on=False)
        assert judge(pair, pair.destination) == []


@pytest.mark.parametrize("name", ["x-colo", "background-snapshot"])
def test_a_capability_that_means_another_purpose_is_refused(tmp_path: Path, name: str) -> None:
    with Pair(tmp_path) as pair:
        with Consoles(pair) as consoles:
            consoles.wait_listening()
            switch(pair.destination, name, on=True)
            consoles.source.type(consoles.line)
            assert consoles.source.wait() == 1
            assert f"destination: migration capability {name} is on" in consoles.source.printed()
        switch(pair.destination, name, on=False)
        assert judge(pair, pair.source) == []

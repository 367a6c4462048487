"""A guest that was moved once can be moved on."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.vms.machine import Version
from tests.support.vms.moving import move
from tests.support.vms.pair import Pair, Setup


@pytest.mark.sample(1)
@pytest.mark.parametrize("version", Version, ids=lambda version: version.value)
def test_a_guest_is_moved_on(version: Version, tmp_path: Path) -> None:
    setup = Setup(version, version)
    with Pair(tmp_path / "first", setup) as first:
        assert move(first) == []
        first.destination.look.run("cont")
        with Pair(tmp_path / "second", setup, first) as second:
            assert move(second) == []

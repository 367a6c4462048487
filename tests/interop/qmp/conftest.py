"""QEMU 7.2 and qmon, side by side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.peers import require
from tests.support.processes import Lab
from tests.support.qmp_both import Both


@pytest.fixture
def fresh(tmp_path: Path, lab: Lab) -> Iterator[Both]:
    """Just started, nothing said."""
    require("qemu-system-x86_64")
    fresh = Both(tmp_path, lab)
    yield fresh
    fresh.close()


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    """For tests that leave everything as it was: two that run and have negotiated."""
    require("qemu-system-x86_64")
    folder = tmp_path_factory.mktemp("both")
    with Lab(folder) as lab:
        both = Both(folder, lab)
        both.negotiate()
        yield both
        both.close()


@pytest.fixture
def waiting(tmp_path: Path, lab: Lab) -> Iterator[Both]:
    """Both wait for a migration that is still to be named."""
    require("qemu-system-x86_64")
    both = Both(tmp_path, lab, "-incoming", "defer")
    yield both
    both.close()

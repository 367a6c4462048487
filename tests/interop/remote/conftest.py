"""The QEMUs that a console is connected to."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.support.peer import QEMU_7, QEMU_10, Peer, three_drives
from tests.support.peers import require


@pytest.fixture(params=[QEMU_7, QEMU_10], ids=["qemu7", "qemu10"])
def program(request: pytest.FixtureRequest) -> Sequence[str]:
    command: Sequence[str] = request.param
    require(command[0])
    return command


@pytest.fixture
def qemu(program: Sequence[str], tmp_path: Path) -> Iterator[Peer]:
    """A QEMU named web1 with three drives."""
    with Peer(program, tmp_path / "qemu", three_drives, options=["-name", "web1"]) as peer:
        yield peer

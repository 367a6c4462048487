"""What the machine's tests share."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.embedded_lab import Play, play_in


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs a scene: a coroutine that is given a lab where machines can be started."""
    return play_in(tmp_path)

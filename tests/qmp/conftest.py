"""A server to play scenes with."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.support.qmp_house import Play, run_scene


@pytest.fixture
def play(tmp_path: Path) -> Play:
    """Runs a scene in a house whose server ends with it."""
    return lambda scene: asyncio.run(run_scene(scene, tmp_path / "qmp"))

"""A seat at a terminal that is gone when its test is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.seat import Seat


@pytest.fixture
def seat(tmp_path: Path) -> Iterator[Seat]:
    """A terminal for one qmon."""
    seat = Seat(tmp_path)
    yield seat
    seat.close()

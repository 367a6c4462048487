"""When a copy that does not converge is reported, and reported again."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import cast

import pytest

from qmon.migration.parameters import Parameters
from qmon.migration.progress import Progress
from qmon.migration.source.copy import DriveCopy
from qmon.migration.source.course import SPACING
from qmon.migration.source.gain import Stuck
from qmon.migration.source.observer import Observer
from qmon.notation.units import MIB

WRITTEN = 6


class Played:
    """A copy at its bandwidth limit, of a disk to which a guest writes 6 MiB/s from the 20th second on.

    With the first limit it has no gain; with later ones it has half of what it sends, from ranges that were
    not yet written to.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        clock = SimpleNamespace(monotonic=lambda: self.now)
        monkeypatch.setattr("qmon.migration.source.course.time", clock)
        monkeypatch.setattr("qmon.migration.source.observer.time", clock)
        self.told: list[tuple[int, Stuck]] = []
        self.parameters = SimpleNamespace(max_bandwidth=0, downtime_limit_ms=300)
        self.progress = Progress()
        self.dirty = SimpleNamespace(written_bytes=0)
        drive = SimpleNamespace(id="d0")
        self.copy = SimpleNamespace(drive=drive, dirty=self.dirty, passed=0, remaining=500 * MIB)
        copies = cast(Callable[[], Sequence[DriveCopy]], lambda: [self.copy])
        self.observer = Observer(
            cast(Parameters, self.parameters),
            self.progress,
            copies=copies,
            in_flight=lambda: 0,
            is_copying=lambda: True,
            tell=lambda stuck: self.told.append((round(self.now), stuck)),
            seconds=15,
        )

    def play(self, seconds: float, limit: int, gain: float) -> None:
        self.parameters.max_bandwidth = limit * MIB
        for _ in range(round(seconds / SPACING)):
            self.now += SPACING
            sent = round(limit * MIB * SPACING)
            self.progress.transferred += sent
            self.copy.passed += sent
            self.copy.remaining -= round(sent * gain)
            if self.now > 20:
                self.dirty.written_bytes += round(WRITTEN * MIB * SPACING)
            self.observer.note()


def test_a_limit_that_is_still_too_low_is_told_within_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    played = Played(monkeypatch)
    played.play(20, 2, 1.0)
    played.play(25, 2, 0.0)
    ((begun, first),) = played.told
    assert 20 < begun <= 37
    assert first.value == 9 * MIB
    played.play(10, 5, 0.5)
    _, (again, second) = played.told
    assert 50 <= again <= 51
    assert second.reason == "guests write 6 MiB/s, 5 MiB/s are sent"
    assert second.value == 9 * MIB
    played.play(30, 9, 0.5)
    assert len(played.told) == 2
    assert played.observer.stuck is None

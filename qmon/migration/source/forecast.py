"""Forecasts a copy from its size, the line's rate and the guests' write rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from qmon.migration.source.course import LEAST_GAIN, Sample
from qmon.migration.source.gain import Limits, Stuck, judge

_SECONDS = 10
"""The time for which rates are turned into samples."""

MAX_ROUNDS = 1000


@dataclass(frozen=True, slots=True)
class Forecast:
    """How long a copy takes until the switchover, and the downtime, both in seconds."""

    seconds: float
    downtime: float


def forecast(size: int, rate: float, write_rate: float, downtime_limit: float) -> Forecast | None:
    """Return the forecast of a copy of ``size`` bytes; None if it would not end.

    The rates are in bytes per second, the limit in seconds. As the copy itself it goes through the dirty data
    in rounds; in each, guests write at their rate, to other places than before in the worst case.
    """
    if not size:
        return Forecast(0.0, 0.0)
    if rate <= 0:
        return None
    left, seconds = float(size), 0.0
    for _ in range(MAX_ROUNDS):
        took = left / rate
        seconds += took
        left = write_rate * took
        if left < 1 or left / rate <= downtime_limit:
            return Forecast(seconds, left / rate)
        if write_rate > rate * (1 - LEAST_GAIN):
            return None
    return None


def cure(size: int, rate: float, writes: Mapping[str, float], limits: Limits) -> Stuck | None:
    """Return why a copy of ``size`` bytes would not end, and what would help, as a copy itself judges it.

    ``writes`` are the guests' write rates by drive. None if nothing would help, because nothing arrives.
    """
    moved = round(rate * _SECONDS)
    written = tuple(round(each * _SECONDS) for each in writes.values())
    first = Sample(0.0, 0, 0, (0,) * len(written), size)
    return judge([first, Sample(_SECONDS, moved, moved, written, size)], list(writes), limits)

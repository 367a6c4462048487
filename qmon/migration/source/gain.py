"""Judges whether a copy gains on its guests' writes, and finds the parameter that would help if it does not.

A copy gains if what it deals with makes the rest smaller. In the first pass of a large disk guests write to
ranges that are still to be sent, so even a fast writer takes nothing away. The copy has no gain only when
guests make as much dirty as it deals with. This holds for a disk of any size and for any rate.

The advice is for what guests write now: a writer that has just begun counts in full.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from qmon.migration.source.course import RATE_SECONDS, Rates, Sample, rates
from qmon.notation.units import KIB, MIB, human_size

NO_GAIN = 0.05
"""The copy has no gain if less than this share of what it deals with makes the rest smaller."""

GAIN = 0.3
"""The copy has gained again above this share. Between the two, the judgement stays what it was: the rest goes
up and down with each pass."""

WRITTEN = 0.85
"""Guests that write less than this share of what is sent are no obstacle. Their zeros are not sent."""

HELD_BACK = 0.8
"""A bandwidth limit holds the copy back if at least this share of it is used."""

ENOUGH = 1.5
"""A rate or time that would do is so many times what is needed at least."""

LONGEST_DOWNTIME_MS = 5000
"""A longer downtime is not advised: guests wait for all of it."""


@dataclass(frozen=True, slots=True)
class Limits:
    """The parameters that count: bytes per second, 0 without a limit, and milliseconds."""

    max_bandwidth: int
    downtime_ms: int


@dataclass(frozen=True, slots=True)
class Stuck:
    """Why a copy has no gain, and the value of a parameter that would do.

    ``parameter`` is a migration parameter, or ``bps_wr`` of block_set_io_throttle for ``drive``.
    """

    reason: str
    parameter: str
    value: int
    write_rate: int
    send_rate: int
    drive: str | None = None


def judge(
    samples: Sequence[Sample],
    drives: Sequence[str],
    limits: Limits,
    *,
    was_stuck: bool = False,
    was_changed: bool = False,
) -> Stuck | None:
    """Return why the copy has had no gain during all of the samples, None if it has gained.

    The samples, oldest first, are of the time in which it copied with these limits. ``drives`` are the ids of
    the drives that it copies. ``was_changed`` says that it had no gain with earlier limits: then a gain on
    guests that write more than is sent comes from ranges that they have not yet written to, and ends.
    """
    first, last = samples[0], samples[-1]
    found = rates(first, last, last.at)
    passed = last.passed - first.passed
    if found is None or not found.send or passed <= 0:
        return None
    begun, write = _writing_now(samples, found)
    found = replace(found, write=write)
    is_outrun = was_changed and write >= found.send
    if first.left - last.left >= passed * (GAIN if was_stuck else NO_GAIN) and not is_outrun:
        return None
    if write < found.send * WRITTEN:
        return None
    most_left = max(sample.left for sample in samples)
    return (
        _raise_bandwidth(found, limits)
        or _extend_downtime(found, limits, most_left)
        or _throttle(found, begun, last, drives)
    )


def _writing_now(samples: Sequence[Sample], found: Rates) -> tuple[Sample, int]:
    """Return what guests write: the higher rate of all the time and the last seconds, and where it begins."""
    last = samples[-1]
    begun = next(sample for sample in samples if last.at - sample.at <= RATE_SECONDS)
    recent = rates(begun, last, last.at)
    if recent is None or recent.write <= found.write:
        return samples[0], found.write
    return begun, recent.write


def _raise_bandwidth(found: Rates, limits: Limits) -> Stuck | None:
    if not limits.max_bandwidth or found.send < limits.max_bandwidth * HELD_BACK:
        return None
    why = f"{_guests(found)}, {human_size(found.send)}/s are sent"
    enough = max(found.write, limits.max_bandwidth) * ENOUGH
    return Stuck(why, "max-bandwidth", _rounded_up(enough), found.write, found.send)


def _extend_downtime(found: Rates, limits: Limits, most_left: int) -> Stuck | None:
    needed_ms = round(most_left / found.send * 1000)
    if needed_ms * ENOUGH > LONGEST_DOWNTIME_MS:
        return None
    why = f"{_guests(found)}, the rest takes {needed_ms} ms"
    enough_ms = round(max(needed_ms, limits.downtime_ms) * ENOUGH)
    return Stuck(why, "downtime-limit", -(-enough_ms // 100) * 100, found.write, found.send)


def _throttle(found: Rates, first: Sample, last: Sample, drives: Sequence[str]) -> Stuck:
    why = f"{_guests(found)}, the line takes {human_size(found.send)}/s"
    written = [after - before for before, after in zip(first.written, last.written, strict=True)]
    busiest = max(range(len(written)), key=written.__getitem__)
    others = (sum(written) - written[busiest]) / (last.at - first.at)
    enough = found.send / ENOUGH
    value = _rounded_down(max(enough - others, enough / len(written)))
    return Stuck(why, "bps_wr", value, found.write, found.send, drives[busiest])


def _guests(found: Rates) -> str:
    return f"guests write {human_size(found.write)}/s"


def _rounded_up(rate: float) -> int:
    unit = MIB if rate >= 4 * MIB else KIB
    return -(-round(rate) // unit) * unit


def _rounded_down(rate: float) -> int:
    unit = MIB if rate >= 4 * MIB else KIB
    return max(int(rate) // unit, 1) * unit

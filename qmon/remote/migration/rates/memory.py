"""Judges whether a guest's memory converges, and how much of the downtime limit it may use. Pure.

QEMU decides by itself when the memory fits into its ``downtime-limit``. What is left on the disks is sent in
the same downtime, so QEMU's limit is the person's less that time.
"""

from __future__ import annotations

from qmon.notation.units import human_size
from qmon.remote.migration.rates.convergence import (
    ENOUGH,
    HELD_BACK,
    JUDGED_SECONDS,
    WRITTEN,
    Advice,
    Limits,
    rounded_up,
)
from qmon.remote.migration.rates.pace import MemorySample, Pace, rates

LEAST_PART = 0.1
"""QEMU keeps at least this part of the limit, or the memory would never be sent."""

LONGEST_DOWNTIME_MS = 2_000_000
"""QEMU's most."""

WORTH_SETTING = 0.1
"""QEMU's limit is set anew if it differs by more than this part."""


def judge_memory(pace: Pace, limits: Limits, *, since: float = 0.0) -> Advice | None:
    """Return why the memory does not converge, None if it does or that is not known yet.

    The first round is not judged, as it sends all of the memory, nor the time before ``since``.
    """
    seconds = JUDGED_SECONDS
    if not pace.memory:
        return None
    last = pace.memory[-1]
    samples = [
        each for each in pace.memory if each.rounds > 1 and each.at >= max(since, last.at - seconds - 1)
    ]
    if not samples or last.at - samples[0].at < seconds:
        return None
    send = (last.sent - samples[0].sent) / (last.at - samples[0].at)
    dirty = sum(each.dirty_rate for each in samples) / len(samples)
    if send <= 0 or dirty < send * WRITTEN:
        return None
    of_disks = [rates(disk.since(samples[0].at)) for disk in pace.disks]
    everything = send + sum(each.send for each in of_disks if each)
    is_held_back = 0 < limits.max_bandwidth * HELD_BACK <= everything
    return _advise(samples, send, dirty, limits, is_held_back=is_held_back)


def _advise(
    samples: list[MemorySample], send: float, dirty: float, limits: Limits, *, is_held_back: bool
) -> Advice:
    guests = f"the guest writes {human_size(round(dirty))}/s to its memory"
    if is_held_back:
        why = f"{guests}, {human_size(round(send))}/s are sent"
        enough = rounded_up(max(dirty, limits.max_bandwidth) * ENOUGH)
        return Advice(why, "max-bandwidth", enough, round(dirty), round(send))
    needed_ms = max(each.left for each in samples) / send * 1000
    why = f"{guests}, the rest takes {round(needed_ms)} ms"
    enough = min(-(-round(max(needed_ms, limits.downtime_ms) * ENOUGH) // 100) * 100, LONGEST_DOWNTIME_MS)
    return Advice(why, "downtime-limit", enough, round(dirty), round(send))


class MemoryDowntime:
    """The ``downtime-limit`` that QEMU has to have while the memory is sent; ``limit_ms`` is the person's."""

    def __init__(self, limit_ms: int) -> None:
        self.limit_ms = limit_ms
        self._set_ms = limit_ms

    @property
    def is_changed(self) -> bool:
        """Whether QEMU's value has to be put back to ``limit_ms`` at the end."""
        return self._set_ms != self.limit_ms

    def heard(self, value_ms: int) -> bool:
        """Take QEMU's value; return whether the person has set another one since."""
        if value_ms == self._set_ms:
            return False
        self.limit_ms = self._set_ms = value_ms
        return True

    def value(self, disk_seconds: float) -> int | None:
        """Return the value to set now, in milliseconds; None if the present one will do.

        ``disk_seconds`` is the time that what is left on the disks takes.
        """
        least = max(int(self.limit_ms * LEAST_PART), 1)
        wanted = max(int(self.limit_ms - min(disk_seconds * 1000, self.limit_ms)), least)
        if abs(wanted - self._set_ms) <= self.limit_ms * WORTH_SETTING and wanted != self.limit_ms:
            return None
        if wanted == self._set_ms:
            return None
        self._set_ms = wanted
        return wanted

"""Judges whether the copy of a QEMU's disks converges, and decides how it goes on if it does not. Pure.

A disk does not converge if during some time what is left has not shrunk, because the guest makes as much
dirty as is copied. Then the mirror can become write-blocking: each write of the guest reaches both sides
before it is acknowledged, so nothing new becomes dirty. QEMU 8.2 and later switch a running mirror
(``block-job-change``); before, the mirror has to be started anew.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.notation.units import KIB, MIB, human_size
from qmon.remote.migration.rates.pace import (
    DiskPace,
    Pace,
    Sample,
    rates,
)

JUDGED_SECONDS = 10.0
"""The time without a gain after which a disk does not converge."""

RECENT_SECONDS = 2.0
"""What is left goes up and down with each pass; its maximum of this time counts."""

NO_GAIN = 0.05
"""There is no gain if less than this share of what was copied makes the rest smaller."""

WRITTEN = 0.85
"""A guest that makes dirty less than this share of what is copied is no obstacle."""

HELD_BACK = 0.8
"""A bandwidth limit holds the copy back if at least this share of it is used."""

ENOUGH = 1.5
"""An advised value is so many times what is needed at least."""

CLOSE = 0.5
"""What is left on the disks may take this part of the downtime: the rest is for the memory."""

LONGEST_DOWNTIME_MS = 5000
"""A longer downtime is not advised for disks: the guest waits for all of it."""

WORTH_SAYING_SECONDS = 0.001
"""A shorter round trip is not told: a line through a proxy or tunnel takes longer than the kernel sees."""

SWITCH_COMMAND = "block-job-change"


class CopyMode(enum.Enum):
    """The values of x-qmon-copy-mode."""

    AUTO = "auto"
    """Background, and write-blocking for a disk that does not converge."""
    BACKGROUND = "background"
    WRITE_BLOCKING = "write-blocking"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes per second for disks and memory together, 0 without a limit, and milliseconds."""

    max_bandwidth: int
    downtime_ms: int


@dataclass(frozen=True, slots=True)
class Switch:
    """A mirror that has to become write-blocking, and the line that says so.

    ``anew`` says that the mirror has to be started anew in that mode, as this QEMU can't switch it.
    """

    job: str
    notice: str
    anew: bool = False


@dataclass(frozen=True, slots=True)
class Advice:
    """Why a migration does not converge, and the value of a parameter that would help."""

    reason: str
    parameter: str
    value: int | str
    write_rate: int
    send_rate: int

    def info(self) -> dict[str, Any]:
        """Return ``x-qmon-not-converging`` of a MigrationInfo."""
        return {"reason": self.reason, "parameter": self.parameter, "value": self.value}

    def event(self) -> dict[str, Any]:
        """Return the data of X_QMON_MIGRATION_NOT_CONVERGING."""
        return {**self.info(), "write-rate": self.write_rate, "send-rate": self.send_rate}


class Convergence:
    """Follows the copy of the disks. ``look`` after each ``Pace.note``.

    ``can_switch`` says whether the QEMU has ``block-job-change``.
    """

    def __init__(
        self,
        pace: Pace,
        limits: Limits,
        *,
        can_switch: bool,
        mode: CopyMode = CopyMode.AUTO,
        seconds: float = JUDGED_SECONDS,
    ) -> None:
        self.mode = mode
        self.limits = limits
        self.advice: Advice | None = None
        """Why the disks do not converge at present, and what the person could do."""
        self._pace = pace
        self._can_switch = can_switch
        self._seconds = seconds
        self._judged_limits = limits
        self._since: dict[str, float] = {}
        """When the judgement of each job began."""
        blocking = mode is CopyMode.WRITE_BLOCKING
        self._blocking = {disk.job for disk in pace.disks} if blocking else set()

    def is_write_blocking(self, job: str) -> bool:
        """Whether a mirror was started as, or switched to, write-blocking."""
        return job in self._blocking

    def why_not(self, mode: CopyMode, *, is_moving: bool = False) -> str | None:
        """Return why the mode can't be changed now to this one, None if it can.

        ``is_moving`` says that the memory is being sent.
        """
        if mode is CopyMode.WRITE_BLOCKING and is_moving and not self._can_switch:
            return "the copies would have to start anew, and the memory is being sent already"
        if mode is not CopyMode.WRITE_BLOCKING and self._blocking:
            return "a mirror that is write-blocking can't go back: cancel the migration and start it anew"
        return None

    def look(self, at: float, round_trips: Mapping[str, float] | None = None) -> list[Switch]:
        """Judge the figures; return the mirrors that must become write-blocking now.

        ``round_trips`` has the seconds of each job's connection, where known.
        """
        if self.limits != self._judged_limits:
            self._judged_limits = self.limits
            self._since.clear()
        stuck = [disk for disk in self._pace.disks if self._is_stuck(disk, at)]
        wanted = self._wanted(stuck)
        self.advice = None if wanted or not stuck else self._advise(stuck)
        self._blocking |= {disk.job for disk in wanted}
        can = self._can_switch
        return [
            Switch(disk.job, self._notice(disk, disk in stuck, (round_trips or {}).get(disk.job)), not can)
            for disk in wanted
        ]

    def is_close(self, at: float) -> bool:
        """Whether the disks are close enough for the memory to be sent: the rest fits into the downtime."""
        return bool(self._pace.disks) and all(self._is_close(disk, at) for disk in self._pace.disks)

    def seconds_behind(self, at: float) -> float:
        """Return the seconds that what is left on the disks takes, at the rate that was seen."""
        return max((self._behind(disk, at) for disk in self._pace.disks), default=0.0)

    # One disk

    def _is_close(self, disk: DiskPace, at: float) -> bool:
        if not disk.is_ready:
            return False
        if disk.job in self._blocking:
            return disk.is_synced if disk.tells_sync else not disk.last.left
        return self._behind(disk, at) * 1000 <= self.limits.downtime_ms * CLOSE

    def _behind(self, disk: DiskPace, at: float) -> float:
        begun = max(at - RECENT_SECONDS, disk.ready_at or 0.0)
        left = max((sample.left for sample in disk.since(begun)), default=disk.last.left)
        if not left:
            return 0.0
        limit = self.limits.max_bandwidth
        capacity = min(disk.capacity, limit) if limit else disk.capacity
        return left / capacity if capacity else float("inf")

    def _is_stuck(self, disk: DiskPace, at: float) -> bool:
        if disk.job in self._blocking or disk.error or self._is_close(disk, at):
            self._since.pop(disk.job, None)
            return False
        since = self._since.setdefault(disk.job, disk.last.at)
        samples = disk.since(max(since, at - self._seconds * 2))
        if not samples or samples[-1].at - samples[0].at < self._seconds:
            return False
        samples = disk.since(samples[-1].at - self._seconds - 1)
        return _has_no_gain(samples)

    # All of them

    def _wanted(self, stuck: Sequence[DiskPace]) -> list[DiskPace]:
        """Return the disks whose mirrors must become write-blocking."""
        if self.mode is CopyMode.WRITE_BLOCKING:
            return [disk for disk in self._pace.disks if disk.job not in self._blocking]
        return list(stuck) if self.mode is CopyMode.AUTO and self._can_switch else []

    def _notice(self, disk: DiskPace, is_stuck: bool, round_trip: float | None) -> str:
        """Return the line that says what happens to a disk, and what it costs the guest."""
        if self._can_switch:
            why = " did not converge: it" if is_stuck else ""
            what = f"Drive '{disk.drive}'{why} is copied write-blocking from now on"
        else:
            what = f"The copy of drive '{disk.drive}' starts anew, write-blocking"
        seconds = round_trip or 0.0
        time = f", at least {seconds * 1000:.0f} ms" if seconds >= WORTH_SAYING_SECONDS else ""
        return f"{what}. Each write of the guest waits for the line{time}, until the migration ends"

    def _advise(self, stuck: Sequence[DiskPace]) -> Advice:
        found = [rates(disk.since(disk.last.at - self._seconds)) for disk in stuck]
        send = sum(each.send for each in found if each)
        write = sum(each.dirtied for each in found if each)
        names = " and ".join(f"'{disk.drive}'" for disk in stuck)
        guests = f"guests write {human_size(round(write))}/s to {names}"
        limit = self.limits.max_bandwidth
        if limit and send >= limit * HELD_BACK:
            why = f"{guests}, {human_size(round(send))}/s are sent"
            value: int | str = rounded_up(max(write, limit) * ENOUGH)
            return Advice(why, "max-bandwidth", value, round(write), round(send))
        needed_ms = max(self._behind(disk, disk.last.at) for disk in stuck) / CLOSE * 1000
        if all(disk.is_ready for disk in stuck) and needed_ms * ENOUGH <= LONGEST_DOWNTIME_MS:
            why = f"{guests}, the rest takes {round(needed_ms * CLOSE)} ms"
            return Advice(why, "downtime-limit", _hundreds(needed_ms * ENOUGH), round(write), round(send))
        why = f"{guests}, the line takes {human_size(round(send))}/s"
        return Advice(why, "x-qmon-copy-mode", CopyMode.WRITE_BLOCKING.value, round(write), round(send))


def rounded_up(rate: float) -> int:
    """Return a rate with as few digits as a person would type."""
    unit = MIB if rate >= 4 * MIB else KIB
    return -(-round(rate) // unit) * unit


def _hundreds(milliseconds: float) -> int:
    """Round up to hundreds."""
    return -(-round(milliseconds) // 100) * 100


def _has_no_gain(samples: Sequence[Sample]) -> bool:
    """Whether the guest has made as much dirty as was copied. A line that carries nothing is not judged."""
    found = rates(samples)
    if found is None or found.passed <= 0:
        return False
    return found.gain < found.passed * NO_GAIN and found.dirtied >= found.passed * WRITTEN

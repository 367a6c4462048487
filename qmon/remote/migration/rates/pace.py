"""The figures of a migration of a QEMU's disks and memory, from what QEMU reports now and then. Pure.

A mirror's ``offset`` is what it has copied and ``len`` is that and what is left, so both grow while the guest
writes. ``len`` grows by what the guest makes dirty, in clusters of the mirror's bitmap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.remote.migration.rates.bandwidth import Load

Fields = Mapping[str, Any]

RATE_SECONDS = 5.0
"""The time that rates are averages of: short enough to follow a new limit, long enough to be steady."""

LEAST_SECONDS = 0.5
"""Rates of a shorter time are not known."""

KEPT_SECONDS = 30.0
"""How long samples are kept: as long as anything is judged by them."""

CAPACITY_SECONDS = 1.0
"""What a line takes is measured over this time."""

LEAST_BUSY_SECONDS = 0.01
"""The kernel counts the time in which a connection is busy in jiffies."""

LEAST_GAIN = 0.05
"""If guests make dirty all but this share of what is copied, the time left is not known."""

_ENDED = ("completed", "failed", "cancelled")


@dataclass(frozen=True, slots=True)
class Sample:
    """The figures of one disk, or of several together, at one moment, in bytes."""

    at: float
    """Seconds."""
    sent: int
    """What has gone over the line; it only grows."""
    passed: int
    """What has been copied, zeros included; it only grows."""
    dirtied: int
    """What guests have made dirty since the copy began; it only grows."""
    left: int
    busy: float | None = None
    """Seconds in which the connection had something to send; it only grows. None: not known."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Bytes per second."""

    send: float
    passed: float
    dirtied: float

    @property
    def gain(self) -> float:
        """By how much less is left each second."""
        return self.passed - self.dirtied


def rates(samples: Sequence[Sample]) -> Rates | None:
    """Return the rates from the first to the last sample; None if there is too little time between them."""
    if not samples or (seconds := samples[-1].at - samples[0].at) < LEAST_SECONDS:
        return None
    first, last = samples[0], samples[-1]
    return Rates(
        (last.sent - first.sent) / seconds,
        (last.passed - first.passed) / seconds,
        (last.dirtied - first.dirtied) / seconds,
    )


def total(samples: Iterable[Sample]) -> Sample:
    """Return the sum of several disks' samples of one moment."""
    several = list(samples)
    return Sample(
        max((each.at for each in several), default=0.0),
        sum(each.sent for each in several),
        sum(each.passed for each in several),
        sum(each.dirtied for each in several),
        sum(each.left for each in several),
    )


class DiskPace:
    """The pace of one disk, which one mirror job copies. A mirror that is started anew counts on."""

    def __init__(self, job: str, drive: str) -> None:
        self.job = job
        self.drive = drive
        self.is_ready = False
        """Whether the mirror has been level with the guest. It may have fallen behind since."""
        self.ready_at: float | None = None
        """When it was seen to be ready."""
        self.is_synced = False
        """Whether each write now reaches both sides before it is acknowledged."""
        self.tells_sync = False
        """Whether QEMU tells that. QEMU 7.2 does not."""
        self.error = ""
        self.capacity = 0.0
        """Bytes per second that the line takes; 0: not known yet."""
        self.samples: deque[Sample] = deque()
        self.total = 0
        self._offset = 0
        self._length = 0
        """Until a mirror knows what it has to copy, this is 0, or what the guest writes meanwhile."""
        self._passed = 0
        self._dirtied = 0

    @property
    def last(self) -> Sample:
        return self.samples[-1] if self.samples else Sample(0.0, 0, 0, 0, self.total)

    def note(self, at: float, reported: Fields, load: Load | None) -> None:
        """Note what ``query-block-jobs`` says of the job; ``load`` is what its connection has carried."""
        offset = max(number(reported, "offset", self._offset), 0)
        length = max(number(reported, "len", self._length), offset)
        self._passed += offset - (self._offset if offset >= self._offset else 0)
        if offset < self._offset or length >= self._length * 2:  # it begins, or begins anew
            self.total = max(self.total, length)
        else:
            self._dirtied += max(length - self._length, 0)
        self._offset, self._length = offset, length
        self.is_ready = bool(reported.get("ready", self.is_ready))
        self.ready_at = (self.ready_at or at) if self.is_ready else None
        self.tells_sync |= "actively-synced" in reported
        self.is_synced = bool(reported.get("actively-synced", False))
        self.error = str(reported.get("error", self.error))
        sent, busy = (self._passed, None) if load is None else (load.sent, load.busy)
        self._keep(Sample(at, sent, self._passed, self._dirtied, length - offset, busy))

    def since(self, begun: float) -> list[Sample]:
        """Return the samples from a time on, oldest first."""
        return [sample for sample in self.samples if sample.at >= begun]

    def _keep(self, sample: Sample) -> None:
        self.samples.append(sample)
        while len(self.samples) > 1 and sample.at - self.samples[1].at >= KEPT_SECONDS:
            self.samples.popleft()
        self.capacity = _capacity(self.since(sample.at - CAPACITY_SECONDS), self.capacity)


@dataclass(frozen=True, slots=True)
class MemorySample:
    """The figures of the memory at one moment, in bytes."""

    at: float
    sent: int
    left: int
    total: int
    dirty_rate: float
    """Bytes per second that the guest makes dirty; QEMU measures it at the end of each round."""
    rounds: int


class Pace:
    """The figures of all disks and of the memory.

    ``disks`` has the drive's name by the mirror job's id, ``memory`` the guest's memory in bytes.
    """

    def __init__(self, disks: Mapping[str, str], memory: int = 0) -> None:
        self.disks = [DiskPace(job, drive) for job, drive in disks.items()]
        self.memory: deque[MemorySample] = deque()
        self._memory_bytes = memory
        self._ram: dict[str, Any] = {"transferred": 0, "remaining": memory, "total": memory}
        self._at = 0.0

    def note(
        self,
        at: float,
        jobs: Sequence[Fields],
        migration: Fields | None = None,
        loads: Mapping[str, Load] | None = None,
    ) -> None:
        """Note what QEMU says at a time in seconds.

        ``jobs`` is the result of ``query-block-jobs``; a job that is not in it keeps its last figures.
        ``migration`` is that of ``query-migrate``, None before ``migrate`` was sent: until then it may be
        that of an earlier migration. ``loads`` has what each job's connection has carried, where
        known.
        """
        self._at = at
        by_id = {job.get("device"): job for job in jobs}
        for disk in self.disks:
            if (job := by_id.get(disk.job)) is not None:
                disk.note(at, job, (loads or {}).get(disk.job))
        if migration is not None:
            self._note_memory(at, migration)

    def info(self, *, is_over: bool = False) -> dict[str, Any]:
        """Return members of a MigrationInfo. Rates that are not known are left out, all when it is over."""
        info: dict[str, Any] = {
            "disk": _part(self.disks),
            "ram": dict(self._ram),
            "x-qmon-disks": [{"drive": disk.drive, **_part([disk])} for disk in self.disks],
        }
        if is_over:
            return info
        disks, memory = self._disk_rates(), self._memory_rate()
        if disks is not None or memory is not None:
            info["x-qmon-send-rate"] = round((disks.send if disks else 0) + (memory or 0))
        if disks is not None:
            info["x-qmon-guest-write-rate"] = round(disks.dirtied)
        if "dirty-pages-rate" in self._ram and self.memory:
            info["x-qmon-dirty-pages-rate"] = self._ram["dirty-pages-rate"]
        if (seconds := self._seconds_left(disks, memory)) is not None:
            info["x-qmon-remaining-time"] = round(seconds * 1000)
        return info

    @property
    def sent(self) -> int:
        """The bytes sent until now, of disks and memory."""
        return sum(disk.last.sent for disk in self.disks) + (self.memory[-1].sent if self.memory else 0)

    def _note_memory(self, at: float, migration: Fields) -> None:
        if not self.memory and migration.get("status") in _ENDED and "ram" not in migration:
            return
        ram = migration.get("ram")
        if not isinstance(ram, Mapping):  # as at the beginning: not known yet
            return
        self._ram = {**self._ram, **ram}
        page = number(ram, "page-size", 4096)
        self.memory.append(
            MemorySample(
                at,
                number(ram, "transferred", 0),
                number(ram, "remaining", 0),
                number(ram, "total", self._memory_bytes),
                number(ram, "dirty-pages-rate", 0) * page,
                number(ram, "dirty-sync-count", 0),
            )
        )
        while len(self.memory) > 1 and at - self.memory[1].at >= KEPT_SECONDS:
            self.memory.popleft()

    def _disk_rates(self) -> Rates | None:
        each = [rates(disk.since(self._at - RATE_SECONDS)) for disk in self.disks]
        known = [one for one in each if one is not None]
        if not known:
            return None
        return Rates(
            sum(one.send for one in known),
            sum(one.passed for one in known),
            sum(one.dirtied for one in known),
        )

    def _memory_rate(self) -> float | None:
        recent = [sample for sample in self.memory if sample.at >= self._at - RATE_SECONDS]
        if not recent or (seconds := recent[-1].at - recent[0].at) < LEAST_SECONDS:
            return None
        return (recent[-1].sent - recent[0].sent) / seconds

    def _seconds_left(self, disks: Rates | None, memory: float | None) -> float | None:
        """Return the time until the switchover, None if it is not known, or not finite."""
        if self.memory:
            return _memory_seconds(self.memory[-1], memory)
        left = sum(disk.last.left for disk in self.disks)
        capacity = sum(disk.capacity for disk in self.disks)
        if disks is None or not capacity:
            return None
        if left and disks.gain <= disks.passed * LEAST_GAIN:
            return None
        return (left / disks.gain if left else 0) + self._memory_bytes / capacity


def _capacity(recent: Sequence[Sample], known: float) -> float:
    """Return what the line takes in bytes per second, by some recent samples; else what is ``known``.

    A mirror that is level with the guest, or that copies zeros, sends little although the line takes more.
    """
    found = rates(recent)
    if found is None or not found.send:
        return known
    first, last = recent[0], recent[-1]
    if first.busy is not None and last.busy is not None:
        return (last.sent - first.sent) / max(last.busy - first.busy, LEAST_BUSY_SECONDS)
    return found.send if not known or all(each.left for each in recent) else known


def _memory_seconds(last: MemorySample, rate: float | None) -> float | None:
    if rate is None or rate <= 0:
        return None
    gain = rate - (last.dirty_rate if last.rounds > 1 else 0)
    return last.left / gain if gain >= rate * LEAST_GAIN else None


def _part(disks: Sequence[DiskPace]) -> dict[str, int]:
    """Return the figures of some disks. What is left is never more than the total: a bar can show it."""
    return {
        "transferred": sum(disk.last.sent for disk in disks),
        "remaining": sum(min(disk.last.left, disk.total) for disk in disks),
        "total": sum(disk.total for disk in disks),
    }


def number(fields: Fields, name: str, default: int) -> int:
    """Return a member that is a number, the default if it is missing or something else."""
    value = fields.get(name, default)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else default

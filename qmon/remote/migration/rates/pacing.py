"""Follows a migration at its source: reads QEMU's figures, and keeps limits and convergence in order."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Any

from qmon.remote.migration.copies import BACKGROUND, WRITE_BLOCKING, Copy, start_anew, start_copy, switch_copy
from qmon.remote.migration.rates.bandwidth import Bandwidth
from qmon.remote.migration.rates.buffers import Buffers
from qmon.remote.migration.rates.convergence import (
    SWITCH_COMMAND,
    Advice,
    Convergence,
    CopyMode,
    Limits,
    Switch,
)
from qmon.remote.migration.rates.memory import MemoryDowntime, judge_memory
from qmon.remote.migration.rates.pace import Fields, Pace
from qmon.remote.migration.rates.paced_line import PacedLine
from qmon.remote.migration.rates.settings import Settings
from qmon.remote.migration.rates.write_cost import SPACING as COST_SPACING
from qmon.remote.migration.rates.write_cost import WriteCost
from qmon.remote.migration.side import Side

NOT_CONVERGING = "X_QMON_MIGRATION_NOT_CONVERGING"

MEMORY_LINE = "memory"

TELL_AGAIN_SECONDS = 60.0
"""The shortest time between two reports, so that a copy at the limit does not report all the time."""

_DOWNTIME = "downtime-limit"


class Pacing:
    """From the start of the copies to the pause of the guest. Methods that ask QEMU raise CommandError."""

    def __init__(self, side: Side, settings: Settings, *, inc: bool) -> None:
        self._side = side
        self._qemu = side.qemu
        self._settings = settings
        self._inc = inc
        self._copies: dict[str, Copy] = {}
        self._lines: dict[str, PacedLine] = {}
        self._pace = Pace({})
        self._buffers = Buffers([], 0)
        self._costs: dict[str, WriteCost] = {}
        self._costs_at = 0.0
        self._bandwidth = Bandwidth()
        self._downtime = MemoryDowntime(0)
        self._convergence = Convergence(self._pace, Limits(0, 0), can_switch=False)
        self._advice: Advice | None = None
        self._told_at = -TELL_AGAIN_SECONDS
        self._changed_at = 0.0
        """When the person changed the limits."""
        self._is_sending_memory = False
        self._is_over = False

    async def begin(self, copies: Sequence[Copy]) -> None:
        """Read QEMU's settings, before the copies start."""
        self._copies = {copy.job: copy for copy in copies}
        summary = await self._qemu("query-memory-size-summary")
        memory = summary["base-memory"] + summary.get("plugged-memory", 0)
        self._pace = Pace({copy.job: copy.disk.name for copy in copies}, memory)
        self._costs = {copy.job: WriteCost(copy.disk.name, copy.disk.node) for copy in copies}
        parameters = await self._qemu("query-migrate-parameters")
        self._downtime = MemoryDowntime(parameters[_DOWNTIME])
        self._bandwidth.limit = parameters["max-bandwidth"]
        self._buffers = Buffers(self._pace.disks, self._bandwidth.limit / len(copies))
        self._convergence = Convergence(
            self._pace,
            Limits(self._bandwidth.limit, self._downtime.limit_ms),
            can_switch=SWITCH_COMMAND in self._qemu.remote.commands(),
            mode=self._settings.copy_mode,
        )

    async def start(self, copy: Copy) -> None:
        """Start a copy."""
        mode = WRITE_BLOCKING if self._settings.copy_mode is CopyMode.WRITE_BLOCKING else BACKGROUND
        size = self._buffers.size(copy.job)
        await start_copy(self._qemu, copy, inc=self._inc, mode=mode, buffer=size)

    def carry(self, name: str, connection: socket.socket) -> None:
        """Pace a connection: of a mirror, by its job's id, or of the memory, ``MEMORY_LINE``."""
        if connection.family != socket.AF_UNIX:
            self._lines[name] = PacedLine(connection)
            self._divide(time.monotonic())

    def why_not(self, mode: CopyMode) -> str | None:
        """Return why the copies can't be in this mode from now on, None if they can."""
        return self._convergence.why_not(mode, is_moving=self._is_sending_memory)

    @property
    def downtime_limit(self) -> float:
        """How long the guest may stand still, in seconds, as the person has set it."""
        return self._downtime.limit_ms / 1000

    @property
    def set_aside(self) -> dict[str, int]:
        """The person's parameters, where QEMU has others at present."""
        return {_DOWNTIME: self._downtime.limit_ms} if self._downtime.is_changed else {}

    def info(self) -> dict[str, Any]:
        """Return the members of a MigrationInfo that it knows of; {} before the copies begin."""
        if not self._copies:
            return {}
        info = self._pace.info(is_over=self._is_over)
        if self._advice is not None:
            info["x-qmon-not-converging"] = self._advice.info()
        return info

    async def look(self, migration: Fields | None = None) -> bool:
        """Note QEMU's figures and act on them; return whether the disks are close enough for the memory.

        ``migration`` is the result of ``query-migrate``, once ``migrate`` was sent.
        """
        self._is_sending_memory = migration is not None
        jobs = await self._qemu("query-block-jobs")
        now = time.monotonic()
        self._pace.note(now, jobs, migration, {name: line.load for name, line in self._lines.items()})
        await self._follow_parameters()
        trips = {name: line.round_trip for name, line in self._lines.items()}
        switches = self._convergence.look(now, trips)
        await self._tell_costs(now)
        self._divide(now)
        if migration is None and not switches:
            await self._refit()
        for switch in switches:
            self._side.notice(switch.notice)
            self._costs[switch.job].switch()
            await self._make_write_blocking(switch)
        if migration is not None:
            await self._share_downtime(self._convergence.seconds_behind(now))
        self._advise(now)
        return not switches and self._convergence.is_close(now)

    async def _make_write_blocking(self, switch: Switch) -> None:
        copy = self._copies[switch.job]
        if not switch.anew:
            await switch_copy(self._qemu, copy)
            return
        self._buffers.fit(next(disk for disk in self._pace.disks if disk.job == switch.job))
        await self._start_anew(copy, WRITE_BLOCKING)

    async def _refit(self) -> None:
        """Start copies anew that have copied little and whose buffer is too big for their line."""
        for disk in self._pace.disks:
            if not self._convergence.is_write_blocking(disk.job) and self._buffers.refit(disk):
                await self._start_anew(self._copies[disk.job], BACKGROUND)

    async def _start_anew(self, copy: Copy, mode: str) -> None:
        size = self._buffers.size(copy.job)
        await start_anew(self._qemu, copy, inc=self._inc, mode=mode, buffer=size)

    def seconds_behind(self) -> float:
        """Return the seconds that what is left on the disks takes, at the rate that was seen."""
        return self._convergence.seconds_behind(time.monotonic())

    def note_memory(self, migration: Fields) -> None:
        """Note ``query-migrate`` after the guest's pause."""
        self._pace.note(time.monotonic(), [], migration)

    def lift(self) -> None:
        """Let everything go at the line's rate: the guest stands still, or the migration is undone."""
        for line in self._lines.values():
            line.pace(0)

    def cut(self) -> None:
        """End the connections, whoever holds them.

        QEMU 7.2 leaves the memory's open behind a failure, and this console holds those of a QEMU that died:
        the destination would wait.
        """
        for line in self._lines.values():
            line.cut()

    def close(self) -> None:
        """Let go of the connections; idempotent."""
        for line in self._lines.values():
            line.close()
        self._lines.clear()
        self._is_over = True
        self._advice = None
        self._downtime = MemoryDowntime(self._downtime.limit_ms)

    def _divide(self, now: float) -> None:
        loads = {name: line.load for name, line in self._lines.items()}
        for name, rate in self._bandwidth.divide(now, loads).items():
            self._lines[name].pace(rate)

    async def _follow_parameters(self) -> None:
        """Take over what the person has changed, on whatever way."""
        parameters = await self._qemu("query-migrate-parameters")
        self._bandwidth.limit = parameters["max-bandwidth"]
        if self._downtime.heard(parameters[_DOWNTIME]):
            await self._keep_downtime()
        limits = Limits(self._bandwidth.limit, self._downtime.limit_ms)
        if limits != self._convergence.limits:
            self._convergence.limits = limits
            self._changed_at = time.monotonic()
            self._told_at = -TELL_AGAIN_SECONDS
        self._convergence.mode = self._settings.copy_mode

    async def _tell_costs(self, now: float) -> None:
        """Tell how long the writes of a guest take whose disk has become write-blocking."""
        if now - self._costs_at >= COST_SPACING:
            self._costs_at = now
            statistics = await self._qemu("query-blockstats")
            for cost in self._costs.values():
                cost.note(now, statistics)
                if line := cost.line():
                    self._side.notice(line)

    async def _share_downtime(self, disk_seconds: float) -> None:
        value = self._downtime.value(disk_seconds)
        if value is not None:
            await self._keep_downtime()
            await self._qemu.set_parameters({_DOWNTIME: value})

    async def _keep_downtime(self) -> None:
        """Record the person's limit: it is put back at the end, by another console if need be."""
        record = self._side.record
        if record is not None and record.parameters.get(_DOWNTIME) != self._downtime.limit_ms:
            record.parameters[_DOWNTIME] = self._downtime.limit_ms
            await self._side.keep_record()

    def _advise(self, now: float) -> None:
        before = self._advice
        self._advice = self._convergence.advice or judge_memory(
            self._pace, self._convergence.limits, since=self._changed_at
        )
        if self._advice is not None and before is None and now - self._told_at >= TELL_AGAIN_SECONDS:
            self._told_at = now
            self._side.tell(NOT_CONVERGING, self._advice.event())

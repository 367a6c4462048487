"""The trial of a migration: finds out whether it would be accepted and how long it would take."""

from __future__ import annotations

import asyncio
from typing import Any

from qmon.errors import CommandError, QmonError, reason
from qmon.host.threads import Workers
from qmon.machine.machine import Machine
from qmon.machine.migration.info import not_converging
from qmon.machine.migration.migrations import Migrations
from qmon.migration.parameters import Parameters
from qmon.migration.patience import Patience
from qmon.migration.source.forecast import cure, forecast
from qmon.migration.source.gain import Limits
from qmon.migration.source.opening import Route
from qmon.migration.source.trial import Result, Trial
from qmon.migration.wire.offer import Mode
from qmon.migration.wire.transport import FdPlace, FilePlace, parse_uri
from qmon.qmp.registry import command

LIMITING = 0.9
"""If the measured rate is at least this share of max-bandwidth, the limit has held it back."""


class TrialCommands:
    """The command of trials; one at a time."""

    def __init__(self, machine: Machine, migrations: Migrations, patience: Patience) -> None:
        self._machine = machine
        self._migrations = migrations
        self._patience = patience

    @command("x-qmon-migrate-trial")
    async def trial(self, uri: str, blk: bool | None = None, inc: bool | None = None) -> dict[str, Any]:
        """Ask the destination whether it would accept the migration, and measure the line for some seconds.

        Nothing is copied, changed or recorded. ``mismatches`` are the reasons for a refusal; without any the
        result also has ``data`` (bytes to send), ``rate``, ``guest-write-rate`` and ``max-bandwidth`` (bytes
        per second), ``converges``, and ``duration`` and ``expected-downtime`` (milliseconds) or
        ``x-qmon-not-converging``.
        """
        outgoing = self._migrations.outgoing
        outgoing.check_may_start()
        transport = parse_uri(uri)
        if isinstance(transport.place, FdPlace | FilePlace):
            raise CommandError(f"A trial needs answers, and {uri} can be used only once: use another address")
        await self._migrations.places.check_destination(transport.place)
        outgoing.check_may_start()  # again, because other commands may have run in between
        settings = self._migrations.settings
        mode = settings.begin(bool(blk), bool(inc))
        settings.end()
        drives = list(self._machine.drives.values())
        options = outgoing.options(mode, transport.place)
        left = outgoing.left_behind(options)
        trial = Trial(
            Route(transport, lambda: self._migrations.security.of_source(transport.place)),
            options,
            drives,
            settings.parameters,
            lambda: {drive.id: drive.guest.device.accounts.total().wr_bytes for drive in drives},
            self._patience,
        )
        found = await outgoing.trial.run(trial.cancel, lambda: _run(trial))
        result: dict[str, Any] = {
            "x-qmon-peer": uri,
            "mode": mode.value,
            "mismatches": list(found.report.mismatches),
            "warnings": list(found.report.warnings),
        }
        if left:
            result["x-qmon-stays-behind"] = left
        if not found.report.mismatches:
            result |= outlook(found, settings.parameters)
        return result


async def _run(trial: Trial) -> Result:
    """Run a trial on a thread of its own; if this is cancelled, the trial ends first."""
    try:
        workers = Workers(1, "migration-trial")
    except OSError as error:
        raise CommandError(reason(error)) from error
    running = asyncio.get_running_loop().run_in_executor(workers, trial.run)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        trial.cancel()
        await asyncio.wait([running])
        running.exception()  # it has said that it was cancelled
        raise
    except (OSError, QmonError, MemoryError) as error:
        raise CommandError(reason(error)) from error
    finally:
        workers.shutdown(wait=False)


def outlook(found: Result, parameters: Parameters) -> dict[str, Any]:
    """Return how the migration would go, from what a trial has measured."""
    if found.mode is Mode.SHARED:
        return {"converges": True}
    rate, write_rates = found.rate or 0.0, found.write_rates or {}
    data, writes = sum(found.to_send.values()), sum(write_rates.values())
    limit = parameters.max_bandwidth
    result: dict[str, Any] = {
        "data": data,
        "x-qmon-disks": [
            {"drive": name, "data": size, "x-qmon-guest-write-rate": round(write_rates.get(name, 0.0))}
            for name, size in found.to_send.items()
        ],
        "rate": round(rate),
        "max-bandwidth": limit,
        "is-limited": bool(limit) and rate >= limit * LIMITING,
        "x-qmon-guest-write-rate": round(writes),
    }
    course = forecast(data, rate, writes, parameters.downtime_limit_ms / 1000)
    result["converges"] = course is not None
    if course is not None:
        result["duration"] = round(course.seconds * 1000)
        result["expected-downtime"] = round(course.downtime * 1000)
    elif stuck := cure(data, rate, write_rates, Limits(limit, parameters.downtime_limit_ms)):
        result["x-qmon-not-converging"] = not_converging(stuck)
    return result

"""The parts of the result of ``query-migrate`` (QAPI: MigrationInfo)."""

from __future__ import annotations

from typing import Any

from qmon.migration.destination.incoming import Incoming
from qmon.migration.parameters import PAGE_SIZE
from qmon.migration.phases import Phase
from qmon.migration.progress import DriveFigures, Progress
from qmon.migration.source.gain import Stuck
from qmon.migration.source.outgoing import Source

_STATS: dict[str, int | float] = {
    "transferred": 0,
    "remaining": 0,
    "total": 0,
    "duplicate": 0,
    "skipped": 0,
    "normal": 0,
    "normal-bytes": 0,
    "dirty-pages-rate": 0,
    "mbps": 0,
    "dirty-sync-count": 0,
    "postcopy-requests": 0,
    "page-size": 0,
    "multifd-bytes": 0,
    "pages-per-second": 0,
    "precopy-bytes": 0,
    "downtime-bytes": 0,
    "postcopy-bytes": 0,
    "dirty-sync-missed-zero-copy": 0,
}
"""A MigrationStats (QAPI) of zeros."""


def describe(phase: Phase, progress: Progress) -> dict[str, Any]:
    """Return a MigrationInfo of one side, without ``ram``."""
    info: dict[str, Any] = {"status": phase.status}
    if progress.total_time is not None:
        info["total-time"] = round(progress.total_time * 1000)
    if progress.setup_time is not None:
        info["setup-time"] = round(progress.setup_time * 1000)
    if progress.ended_at is not None and not phase.is_under_way:
        info["x-qmon-ended"] = round(progress.ended_at)
    if progress.downtime is not None:
        info["downtime"] = round(progress.downtime * 1000)
    elif progress.expected_downtime is not None and phase.is_under_way:
        info["expected-downtime"] = round(progress.expected_downtime * 1000)
    if progress.total:
        info["disk"] = {
            **_STATS,
            "transferred": progress.transferred,
            "remaining": progress.remaining,
            "total": progress.total,
            "mbps": _megabits(progress),
            "dirty-sync-count": progress.rounds,
        }
    if progress.throttle:
        info["cpu-throttle-percentage"] = progress.throttle
    if progress.overdue:
        info["x-qmon-overdue-switchovers"] = progress.overdue
    if progress.compared is not None:
        info["x-qmon-compared"] = dict(zip(("bytes", "chunks"), progress.compared, strict=True))
    if progress.verified is not None:
        info["x-qmon-verified"] = progress.verified
    if progress.error is not None:
        info["error-desc"] = progress.error
    return info


def describe_source(phase: Phase, source: Source) -> dict[str, Any]:
    """Return the MigrationInfo of an outgoing migration."""
    info = describe(phase, source.progress)
    info["x-qmon-side"] = "source"
    info["x-qmon-id"] = str(source.id)
    info["x-qmon-peer"] = source.peer
    if source.can_resume:
        info["x-qmon-can-resume"] = True
    if figures := source.observer.drive_figures:
        info["x-qmon-disks"] = [_disk(each) for each in figures]
    if (found := source.observer.rates()) is not None:
        info["x-qmon-send-rate"] = found.send
        info["x-qmon-guest-write-rate"] = found.write
        if found.remaining_ms is not None:
            info["x-qmon-remaining-time"] = found.remaining_ms
    if phase in (Phase.UNCONFIRMED, Phase.ABANDONED, Phase.CONTINUED):
        info["x-qmon-unconfirmed"] = True
    if source.progress.is_kept:
        info["x-qmon-resolved"] = "keep"
    if (stuck := source.observer.stuck) is not None:
        info["x-qmon-not-converging"] = not_converging(stuck)
    if source.progress.agreed is not None:
        info["ram"] = no_ram(source.progress)
    return info


def describe_incoming(phase: Phase, incoming: Incoming) -> dict[str, Any]:
    """Return the MigrationInfo of an incoming migration."""
    info = describe(phase, incoming.progress)
    info["x-qmon-side"] = "destination"
    if incoming.can_resume:
        info["x-qmon-can-resume"] = True
    if figures := incoming.drive_figures:
        info["x-qmon-disks"] = [_disk(each) for each in figures]
    if phase is Phase.ACTIVE:
        info["x-qmon-send-rate"] = round(incoming.progress.rate)
    return info


def not_converging(stuck: Stuck) -> dict[str, Any]:
    """Return ``x-qmon-not-converging`` of a MigrationInfo: the reason, and the value that would do."""
    advice: dict[str, Any] = {"reason": stuck.reason, "parameter": stuck.parameter, "value": stuck.value}
    return advice if stuck.drive is None else {**advice, "device": stuck.drive}


def _disk(figures: DriveFigures) -> dict[str, Any]:
    named = {"remaining": figures.remaining, "total": figures.total}
    known = {name: value for name, value in named.items() if value is not None}
    return {"drive": figures.id, "transferred": figures.transferred, **known}


def no_ram(progress: Progress) -> dict[str, Any]:
    """Return ``ram`` of MigrationInfo. There is no RAM, but figures of the whole migration are in it."""
    figures = {"mbps": _megabits(progress), "dirty-sync-count": progress.rounds, "page-size": PAGE_SIZE}
    return {**_STATS, **figures, "multifd-bytes": progress.channel_bytes}


def _megabits(progress: Progress) -> float:
    """Return the rate in megabits per second."""
    return round(progress.rate * 8 / 1e6, 2)

"""The parts of the result of ``query-migrate`` (QAPI: MigrationInfo)."""

from __future__ import annotations

import socket
from typing import Any, Literal

from qmon.migration.parameters import PAGE_SIZE
from qmon.migration.phases import Phase
from qmon.migration.progress import Progress

Status = Literal[
    "none",
    "setup",
    "cancelling",
    "cancelled",
    "active",
    "postcopy-active",
    "postcopy-paused",
    "postcopy-recover",
    "completed",
    "failed",
    "colo",
    "pre-switchover",
    "device",
    "wait-unplug",
]
"""QAPI's MigrationStatus."""


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
    info["total-time"] = round(progress.total_time * 1000)
    if progress.agreed is not None:
        info["setup-time"] = round((progress.agreed - progress.started) * 1000)
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
    if progress.overdue:
        info["x-qmon-overdue-switchovers"] = progress.overdue
    if progress.error is not None:
        info["error-desc"] = progress.error
    return info


def qapi_address(listener: socket.socket) -> dict[str, Any]:
    """Return the address on which a socket listens, as QAPI's SocketAddress."""
    name = listener.getsockname()
    if isinstance(name, tuple):
        family = "ipv6" if listener.family == socket.AF_INET6 else "ipv4"
        return {"type": "inet", "host": name[0], "port": str(name[1]), family: True}
    return {"type": "unix", "path": name}


def no_ram(progress: Progress) -> dict[str, Any]:
    """Return ``ram`` of MigrationInfo. There is no RAM, but figures of the whole migration are in it."""
    figures = {"mbps": _megabits(progress), "dirty-sync-count": progress.rounds, "page-size": PAGE_SIZE}
    return {**_STATS, **figures}


def _megabits(progress: Progress) -> float:
    """Return the rate in megabits per second."""
    return round(progress.rate * 8 / 1e6, 2)

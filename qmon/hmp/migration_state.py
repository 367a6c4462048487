"""Judges the state of a migration from the result of ``query-migrate`` (QAPI: MigrationInfo)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError

POLL_SECONDS = 0.1
"""The interval of ``query-migrate`` while a line waits for a migration."""

TO_GO_ON = (
    "'migrate -r URI' at the source continues it, after 'migrate_recover URI' at the destination if it is to"
    " listen elsewhere"
)
"""What to do about a paused migration; an event does not say on which side this is."""

Info = Mapping[str, Any]

_UNDER_WAY = frozenset(
    """
    setup active pre-switchover device cancelling wait-unplug postcopy-active postcopy-recover-setup
    postcopy-recover colo
    """.split()
)


def is_under_way(info: Info) -> bool:
    """Whether a migration has begun and has not ended."""
    return info.get("status") in _UNDER_WAY


def is_ours(info: Info) -> bool:
    """Whether it is a migration of qmon's: of the embedded machine, or by two consoles of QEMUs."""
    return "x-qmon-side" in info


def moves_guest(info: Info) -> bool:
    """Whether the guest of a QEMU moves with its memory and disks, by two consoles (``x-qmon-waits``)."""
    return is_ours(info) and "x-qmon-waits" in info


def moves_guest_away(info: Info) -> bool:
    """Whether it does so from here. A script is told of its end by its own line, of an arrival at its end."""
    return moves_guest(info) and info["x-qmon-side"] == "source"


def is_in_doubt(info: Info) -> bool:
    """Whether this side does not know if the other side runs."""
    return info.get("status") == "device" and "error-desc" in info


def is_over(info: Info) -> bool:
    """Whether waiting is useless: the migration has ended, or is in doubt, which an operator must settle."""
    return not is_under_way(info) or is_in_doubt(info)


def is_awaited(info: Info) -> bool:
    """Whether the machine listens for an incoming migration, or reads one; it may have begun."""
    return "socket-address" in info or "x-qmon-reads" in info


def check_end(info: Info) -> None:
    """Raises CommandError with the reason if a migration has not succeeded."""
    match info.get("status"):
        case "device":
            raise CommandError(info["error-desc"])
        case "failed":
            raise CommandError(info.get("error-desc") or "the migration failed")
        case "cancelled":
            raise CommandError(info.get("error-desc") or "the migration was cancelled")
        case "postcopy-paused":
            why = info.get("error-desc", "")
            if "migrate" in why:  # it says what to do
                raise CommandError(why)
            because = f" ({why})" if why else ""
            raise CommandError(f"the migration is paused{because}: {TO_GO_ON}")

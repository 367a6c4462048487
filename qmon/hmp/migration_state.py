"""What may be said of a migration by what ``query-migrate`` answers (QAPI: MigrationInfo)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError

POLL_SECONDS = 0.1
"""How often a migration is asked about while somebody waits for its end."""

Info = Mapping[str, Any]

_UNDER_WAY = frozenset(
    """
    setup active pre-switchover device cancelling wait-unplug postcopy-active postcopy-recover colo
    """.split()
)


def is_under_way(info: Info) -> bool:
    """Whether a migration has begun and has not ended."""
    return info.get("status") in _UNDER_WAY


def is_in_doubt(info: Info) -> bool:
    """Whether this side does not know whether the other runs."""
    return info.get("status") == "device" and "error-desc" in info


def is_over(info: Info) -> bool:
    """Whether waiting is of no more use: an error at the switchover is doubt, which only a person ends."""
    return not is_under_way(info) or is_in_doubt(info)


def is_awaited(info: Info) -> bool:
    """Whether the machine listens for a migration, begun or not."""
    return "socket-address" in info


def check_end(info: Info) -> None:
    """Raises CommandError with the reason for a migration whose end is not a good one."""
    match info.get("status"):
        case "device":
            raise CommandError(info["error-desc"])
        case "failed":
            raise CommandError(info.get("error-desc") or "the migration failed")
        case "cancelled":
            raise CommandError(info.get("error-desc") or "the migration was cancelled")
        case "postcopy-paused":
            raise CommandError(info.get("error-desc") or "the migration is paused: go on by 'migrate -r URI'")

"""Events that a person wants to hear of: how a migration in the background ended."""

from __future__ import annotations

from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.qmp.target import Event, Target

ENDS = {
    "completed": "Migration completed",
    "failed": "Migration failed",
    "cancelled": "Migration cancelled",
}
"""What is said of each status by which a migration ends."""


def migration_end(event: Event) -> str | None:
    """The status by which a migration has ended; None for any other event."""
    status = event.data.get("status") if event.name == "MIGRATION" else None
    return status if isinstance(status, str) and status in ENDS else None


async def announce_failure(target: Target, notify: Callable[[str], None]) -> None:
    """Say that a migration failed, and why (``error-desc`` of query-migrate)."""
    try:
        info = await target.execute("query-migrate")
        why = str(info.get("error-desc") or "")
    except QmonError as error:
        why = f"the reason could not be asked for: {reason(error)}"
    notify(f"{ENDS['failed']}: {why}" if why else ENDS["failed"])

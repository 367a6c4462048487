"""Events that a person wants to hear of: how a migration in the background ended."""

from __future__ import annotations

from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.qmp.target import Event, Target

_ENDS = {
    "completed": "Migration completed",
    "failed": "Migration failed",
    "cancelled": "Migration cancelled",
}


def migration_end(event: Event) -> str | None:
    """The status by which a migration has ended; None for any other event."""
    status = event.data.get("status") if event.name == "MIGRATION" else None
    return status if isinstance(status, str) and status in _ENDS else None


async def announce(target: Target, status: str, notify: Callable[[str], None]) -> None:
    """Say how a migration ended, with the reason (``error-desc`` of query-migrate) when it failed."""
    why = ""
    if status == "failed":
        try:
            info = await target.execute("query-migrate")
            why = str(info.get("error-desc") or "")
        except QmonError as error:
            why = f"the reason could not be asked for: {reason(error)}"
    notify(f"{_ENDS[status]}: {why}" if why else _ENDS[status])

"""Events that a person wants to hear of: how a migration in the background ended, or that nobody knows."""

from __future__ import annotations

from collections.abc import Callable

from qmon.errors import QmonError, reason
from qmon.qmp.target import Event, Target

AT_ONCE = {"completed": "Migration completed", "cancelled": "Migration cancelled"}
"""What is said of a status that says it all."""

_WITH_REASON = {"failed": "Migration failed", "device": "Migration in doubt"}
"""The same of one whose reason is asked for; without a reason ``device`` is the way to a good end."""


def migration_news(event: Event) -> str | None:
    """The status that a migration has come to, if it is one to tell of."""
    status = event.data.get("status") if event.name == "MIGRATION" else None
    return status if status in AT_ONCE or status in _WITH_REASON else None


async def announce(status: str, target: Target, notify: Callable[[str], None]) -> None:
    """Say that a migration failed or is in doubt, and why (``error-desc`` of query-migrate)."""
    try:
        info = await target.execute("query-migrate")
        why = str(info.get("error-desc") or "")
    except QmonError as error:
        why = f"the reason could not be asked for: {reason(error)}"
    else:
        if status == "device" and (info.get("status") != status or not why):
            return
    notify(f"{_WITH_REASON[status]}: {why}" if why else _WITH_REASON[status])

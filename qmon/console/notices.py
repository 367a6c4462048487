"""Notices for the operator, made from events: migrations, block jobs, I/O errors, NBD clients."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.errors import QmonError, reason
from qmon.hmp.jobs import is_hidden
from qmon.hmp.migration_state import TO_GO_ON
from qmon.hmp.migration_words import end, not_converging, where_disks_stay, where_guest_stays
from qmon.notation.plain_text import in_one_line, one_line
from qmon.qmp.target import Event, Target, ask

AT_ONCE = {"cancelled": "Migration cancelled"}
"""Notices of final statuses that need no query."""

_WITH_REASON = {"failed": "Migration failed", "device": "Migration in doubt"}
"""Notices of statuses whose reason is asked for. ``device`` without a reason is a normal phase: no notice."""

_ON_THE_WAY = {
    "pre-switchover": (
        "The migration waits before the switchover: 'migrate_continue pre-switchover' continues it"
    ),
    "postcopy-paused": f"The migration is paused: {TO_GO_ON}",
}
"""Notices of statuses in which a migration waits for the operator."""


def migration_news(event: Event) -> str | None:
    """Return the status to announce if the event says that a migration ended or is in doubt, else None."""
    status = event.data.get("status") if event.name == "MIGRATION" else None
    return status if status == "completed" or status in AT_ONCE or status in _WITH_REASON else None


async def announce(status: str, target: Target, notify: Callable[[str], None]) -> None:
    """Tell the operator how a migration has ended, or that it is in doubt (the result of query-migrate)."""
    if status == "completed":
        await _announce_success(target, notify)
    else:
        await _announce_failure(status, target, notify)


async def _announce_success(target: Target, notify: Callable[[str], None]) -> None:
    try:
        info = await target.execute("query-migrate")
    except QmonError as error:
        notify(f"Migration completed; its figures are not known: query-migrate failed: {reason(error)}")
        return
    notify("\n".join(map(one_line, end(info))))


async def _announce_failure(status: str, target: Target, notify: Callable[[str], None]) -> None:
    try:
        info = await target.execute("query-migrate")
        why = str(info.get("error-desc") or "")
    except QmonError as error:
        info = {}
        why = f"the reason is not known: query-migrate failed: {reason(error)}"
    else:
        if info.get("x-qmon-resolved") == "keep":
            state = await ask(target, "query-status", {"running": False})
            notify(f"The disks stay here, and this machine {'runs' if state['running'] else 'is paused'}")
            return
        if status == "device" and (info.get("status") != status or not why):
            return
    said = f"{_WITH_REASON[status]}: {one_line(why)}" if why else _WITH_REASON[status]
    stays = await where_guest_stays(target, info)
    if status == "failed":
        stays = stays or await where_disks_stay(target, info)
    notify("\n".join(filter(None, (said, stays))))


def news(event: Event) -> str | None:
    """Return a one-line notice for an event that needs no further query, or None if it needs no notice."""
    say = _NEWS.get(event.name)
    if is_hidden(event.data.get("device")) or _goes_on(event):
        return None
    return say(in_one_line(dict(event.data))) if say is not None else None


def _goes_on(event: Event) -> bool:
    """Whether a migration by two consoles has come to its switchover and does not wait there."""
    return event.name == "MIGRATION" and event.data.get("x-qmon-waits") is False


def _migration(data: Mapping[str, Any]) -> str | None:
    return _ON_THE_WAY.get(data.get("status", ""))


def _io_error(data: Mapping[str, Any]) -> str:
    name = data.get("device") or data.get("node-name") or "a drive"
    operation = data.get("operation", "request")
    return f"I/O error: a {operation} on '{name}' failed: {data.get('reason', 'no reason given')}"


def _client(what: str) -> Callable[[Mapping[str, Any]], str]:
    def say(data: Mapping[str, Any]) -> str:
        address = f" ({data['address']})" if data.get("address") else ""
        return f"An NBD client{address} {what} export '{data.get('export', '')}'"

    return say


def _job(what: str) -> Callable[[Mapping[str, Any]], str]:
    def say(data: Mapping[str, Any]) -> str:
        job = f"Block job '{data.get('device', '')}'"
        return f"{job} failed: {data['error']}" if data.get("error") else f"{job} {what}"

    return say


def _forwarding(data: Mapping[str, Any]) -> str | None:
    if data.get("active"):
        return None  # the end of the migration says it
    return f"No requests are forwarded to the destination any more: {data.get('reason', '')}"


_NEWS: dict[str, Callable[[Mapping[str, Any]], str | None]] = {
    "BLOCK_IO_ERROR": _io_error,
    "BLOCK_JOB_CANCELLED": _job("was cancelled"),
    "BLOCK_JOB_COMPLETED": _job("completed"),
    "BLOCK_JOB_ERROR": lambda data: f"Block job '{data.get('device', '')}' had an I/O error",
    "BLOCK_JOB_READY": _job("is ready: 'block_job_complete' ends it"),
    "MIGRATION": _migration,
    "X_QMON_MIGRATION_FORWARDING": _forwarding,
    "X_QMON_MIGRATION_NOTICE": lambda data: str(data["message"]),
    "X_QMON_MIGRATION_NOT_CONVERGING": not_converging,
    "X_QMON_NBD_CLIENT_CONNECTED": _client("connected to"),
    "X_QMON_NBD_CLIENT_DISCONNECTED": _client("disconnected from"),
}

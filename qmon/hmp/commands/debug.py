"""The program's log, its trace events, and the descriptors that were passed to it."""

from __future__ import annotations

from typing import Any

from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.host.logs import (
    ALL,
    LOG_ITEMS,
    NONE,
    TRACE_PREFIX,
)


@handler("hmp_log", "x-qmon-log")
async def log(call: Call) -> None:
    items = call.text("items").split(",")
    if any(item not in (*LOG_ITEMS, ALL, NONE) and not _is_trace(item) for item in items):
        raise LineError(_items_text())
    if f"{TRACE_PREFIX}help" in items:
        for event in await call.execute("trace-event-get-state", {"name": "*"}):
            call.print(event["name"])
        return
    answer = await call.execute_bare("x-qmon-log", {"items": items})
    for name in answer["unknown-events"]:
        call.print(f"warning: trace event '{name}' does not exist")


def _is_trace(item: str) -> bool:
    return item.startswith(TRACE_PREFIX) and item != TRACE_PREFIX


def _items_text() -> str:
    """Return the list of log items, one per line."""
    rows = {NONE: "no items", ALL: "all items"}
    rows |= {name: item.meaning for name, item in LOG_ITEMS.items()}
    rows[f"{TRACE_PREFIX}PATTERN"] = f"switch trace events on; {TRACE_PREFIX}help lists them"
    return "\n".join(["Log items (comma separated):", *(f"{name:<15} {text}" for name, text in rows.items())])


@handler("hmp_logfile", "x-qmon-logfile")
async def logfile(call: Call) -> None:
    await call.execute_bare("x-qmon-logfile", {"filename": call.text("filename")})


@handler("hmp_trace_event", "trace-event-set-state")
async def trace_event(call: Call) -> None:
    arguments = _event_arguments(call) | {"enable": call.flag("option")}
    await call.execute_bare("trace-event-set-state", arguments)


@handler("hmp_info_trace_events", "trace-event-get-state")
async def info_trace_events(call: Call) -> None:
    for event in await call.execute_bare("trace-event-get-state", _event_arguments(call)):
        call.print(f"{event['name']} : state {int(event['state'] == 'enabled')}")


def _event_arguments(call: Call) -> dict[str, Any]:
    arguments: dict[str, Any] = {"name": call.text("name", "*")}
    if "vcpu" in call.values:
        arguments["vcpu"] = call.values["vcpu"]
    return arguments


@handler("hmp_getfd", "getfd")
async def getfd(call: Call) -> None:
    await call.execute("getfd", {"fdname": call.text("fdname")})


@handler("hmp_closefd", "closefd")
async def closefd(call: Call) -> None:
    await call.execute("closefd", {"fdname": call.text("fdname")})

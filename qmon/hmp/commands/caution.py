"""What a person at a terminal is asked before something is destroyed. Scripts and sockets are never asked."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.hmp.handlers import Call
from qmon.hmp.person import LineError


async def confirm(call: Call, question: str, otherwise: str) -> None:
    """Ask; raises LineError with ``otherwise``, what stays as it is, when the answer is no."""
    if call.person.interactive and not await call.person.ask(question):
        raise LineError(otherwise)


async def drive_clients(call: Call, drive: str) -> int:
    """How many NBD clients use a drive, as far as the target tells."""
    blocks: list[dict[str, Any]] = await call.execute("query-block") if call.has("query-block") else []
    nodes = {
        block["inserted"].get("node-name")
        for block in blocks
        if "inserted" in block and drive in (block["device"], block["inserted"].get("node-name"))
    }
    return await export_clients(call, lambda export: export.get("node-name") in nodes)


async def export_clients(call: Call, chosen: Callable[[Mapping[str, Any]], bool]) -> int:
    """How many NBD clients use the exports that are chosen, as far as the target tells."""
    if not call.has("query-block-exports"):
        return 0
    exports: list[dict[str, Any]] = await call.execute("query-block-exports")
    return sum(export.get("x-qmon-clients", 0) for export in exports if chosen(export))


def users(clients: int, what: str) -> str:
    """``1 NBD client uses 'd0'``"""
    return f"{clients} NBD client{'s' * (clients != 1)} use{'s' * (clients == 1)} {what}"

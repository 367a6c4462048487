"""Asks a person at a terminal before something is destroyed. Scripts and sockets are never asked."""

from __future__ import annotations

from typing import Any

from qmon.hmp.clients import count_clients
from qmon.hmp.handlers import Call
from qmon.hmp.person import LineError
from qmon.qmp.target import ask


async def confirm(call: Call, question: str, otherwise: str) -> None:
    """Ask a question. If the answer is no, raise LineError with ``otherwise``: what was not done."""
    if call.person.interactive and not await call.person.ask(question):
        raise LineError(otherwise)


async def drive_clients(call: Call, drive: str) -> int:
    """Return how many NBD clients use a drive, 0 if the target does not count them."""
    target = call.monitor.line_target
    blocks: list[dict[str, Any]] = await ask(target, "query-block", [])
    nodes = {
        block["inserted"].get("node-name")
        for block in blocks
        if "inserted" in block and drive in (block["device"], block["inserted"].get("node-name"))
    }
    return await count_clients(target, lambda export: export.get("node-name") in nodes)

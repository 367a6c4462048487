"""Names a target's drives, and counts the NBD clients of its exports, if the target reports them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.qmp.target import Target, ask

Export = Mapping[str, Any]
"""QAPI's BlockExportInfo, with ``x-qmon-clients`` if the target counts clients."""


def drive_name(block: Mapping[str, Any]) -> str:
    """Return the name of a BlockInfo's drive: its device's, or else its node's; "" if it has none."""
    return str(block["device"] or block.get("inserted", {}).get("node-name", ""))


async def query_exports(target: Target) -> list[Export]:
    """Return the target's exports, the oldest first; [] if it has no such query. Raises CommandError."""
    exports: list[Export] = await ask(target, "query-block-exports", [])
    return exports[::-1]  # QMP has the newest first


async def count_clients(target: Target, chosen: Callable[[Export], bool] = lambda export: True) -> int:
    """Return the number of clients of the exports for which ``chosen`` is true. Raises CommandError."""
    return sum(export.get("x-qmon-clients", 0) for export in await query_exports(target) if chosen(export))


def users(clients: int, what: str) -> str:
    """Return a clause such as ``1 NBD client uses 'd0'``."""
    return f"{clients} NBD client{'s' * (clients != 1)} use{'s' * (clients == 1)} {what}"

"""The NBD clients of a target's exports, as far as it tells."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from qmon.qmp.target import Target, ask

Export = Mapping[str, Any]
"""QAPI's BlockExportInfo, with ``x-qmon-clients`` where the target counts them."""


async def query_exports(target: Target) -> list[Export]:
    """The target's exports; none if it has no such query. Raises CommandError."""
    exports: list[Export] = await ask(target, "query-block-exports", [])
    return exports


async def count_clients(target: Target, chosen: Callable[[Export], bool] = lambda export: True) -> int:
    """How many clients use the exports that are chosen. Raises CommandError."""
    return sum(export.get("x-qmon-clients", 0) for export in await query_exports(target) if chosen(export))


def users(clients: int, what: str) -> str:
    """``1 NBD client uses 'd0'``"""
    return f"{clients} NBD client{'s' * (clients != 1)} use{'s' * (clients == 1)} {what}"

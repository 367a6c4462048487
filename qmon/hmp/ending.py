"""Finds what the end of the process would interrupt: clients of exports, and a migration in any direction."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.hmp.clients import query_exports, users
from qmon.hmp.migration_state import Info, is_in_doubt, is_ours, is_under_way
from qmon.qmp.target import MIGRATE_DISKS, Target, ask


@dataclass(frozen=True, slots=True)
class CutOff:
    """Something that would be interrupted: a clause, and its continuation that says what would happen."""

    there_is: str
    outcome: str = ""
    is_migration: bool = False

    def __str__(self) -> str:
        return self.there_is + self.outcome


async def cut_off(target: Target) -> list[CutOff]:
    """Return what would be interrupted, as far as the target reports it. Raises CommandError."""
    found = []
    clients = {
        str(export.get("x-qmon-name", export["id"])): export["x-qmon-clients"]
        for export in await query_exports(target)
        if export.get("x-qmon-clients")
    }
    if clients:
        what = f"export '{next(iter(clients))}'" if len(clients) == 1 else f"{len(clients)} exports"
        found.append(CutOff(users(sum(clients.values()), what)))
    info = await ask(target, "query-migrate", {})
    if not is_under_way(info):
        return found
    if MIGRATE_DISKS in target.commands() and is_ours(info):
        there_is, outcome = _of_guest(info)
    elif is_in_doubt(info):
        there_is, outcome = (
            "the migration is in doubt",
            ": restart qmon, or use migrate_resolve, to settle it",
        )
    elif info["status"] == "device":
        there_is, outcome = "the switchover is under way", ": restart qmon to see its result"
    else:
        there_is = "a migration is under way"
        outcome = " and will be cancelled: 'wait migrate' waits until it ends"
    return [*found, CutOff(there_is, outcome, is_migration=True)]


def _of_guest(info: Info) -> tuple[str, str]:
    """Return a ``CutOff``'s texts about the end of a QEMU whose guest moves."""
    if is_in_doubt(info):
        return (
            "it is not known whether the guest runs on the other host",
            ": first settle it by migrate_resolve",
        )
    if info["status"] == "device":
        return "the guest is being handed over at this moment", ": wait a second"
    if info["x-qmon-side"] == "destination":
        return "a migration comes in", " and will fail: the guest stays at the source"
    return "a migration is under way", ": 'migrate_cancel' cancels it, and the guest stays"


async def broken_by_leaving(target: Target) -> str:
    """Return a sentence about a migration that ends if its console leaves, "" if there is none.

    Raises CommandError.
    """
    if MIGRATE_DISKS not in target.commands():
        return ""
    info = await ask(target, "query-migrate", {})
    if not (is_ours(info) and is_under_way(info)) or is_in_doubt(info):
        return ""
    if info["status"] == "device":
        return "The guest is being handed over at this moment, which needs this console"
    if info["x-qmon-side"] == "destination":
        return "A migration comes in: it fails if this console leaves, and the guest stays at the source"
    return "A migration is under way: it is cancelled if this console leaves, and the guest stays here"

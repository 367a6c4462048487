"""What the end of the process would cut off: clients of exports, and a migration, whichever way it goes."""

from __future__ import annotations

from dataclasses import dataclass

from qmon.hmp.clients import query_exports, users
from qmon.hmp.migration_state import is_in_doubt, is_under_way
from qmon.qmp.target import Target, ask


@dataclass(frozen=True, slots=True)
class CutOff:
    """A clause that says what there is, and how it goes on with what comes of that."""

    there_is: str
    outcome: str = ""
    is_migration: bool = False

    def __str__(self) -> str:
        return self.there_is + self.outcome


async def cut_off(target: Target) -> list[CutOff]:
    """What there is to cut off, as far as the target tells. Raises CommandError."""
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
    if is_in_doubt(info):
        there_is, outcome = "the migration is in doubt", ": a new start, or migrate_resolve, settles it"
    elif info["status"] == "device":
        there_is, outcome = "the disks are being handed over", ": a new start tells what came of it"
    else:
        there_is = "a migration is under way"
        outcome = ", which is cancelled: 'wait migrate' waits for its end"
    return [*found, CutOff(there_is, outcome, is_migration=True)]

"""Finds what the end of the process would interrupt: clients of exports, and a migration in any direction."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from qmon.hmp.clients import Export, query_exports, users
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
    used = [export for export in await query_exports(target) if export.get("x-qmon-clients")]
    info = await ask(target, "query-migrate", {})
    through = [export for export in used if "x-qmon-forwarded" in info and export.get("x-qmon-moved")]
    found = []
    if here := [export for export in used if export not in through]:
        found.append(CutOff(users(sum(export["x-qmon-clients"] for export in here), _named(here))))
    found += _forwarded(info, through)
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
    elif info.get("x-qmon-can-resume"):
        there_is = "a migration is under way"
        outcome = " and will be paused: start qmon again, then 'migrate -r URI' at the source continues it"
    else:
        there_is = "a migration is under way"
        outcome = " and will be cancelled: 'wait migrate' waits until it ends"
    return [*found, CutOff(there_is, outcome, is_migration=True)]


def _named(exports: Sequence[Export]) -> str:
    if len(exports) != 1:
        return f"{len(exports)} exports"
    return f"export '{exports[0].get('x-qmon-name', exports[0]['id'])}'"


def _forwarded(info: Info, exports: Sequence[Export]) -> Iterator[CutOff]:
    """Yield the clients that would lose a disk on another host, or that use one here from there.

    ``exports`` are those whose clients' requests are forwarded.
    """
    if (forwarded := info.get("x-qmon-forwarded")) and forwarded["clients"]:
        moved = "which has moved" if len(exports) == 1 else "which have moved"
        what = f"{_named(exports)}, {moved}," if exports else "a disk that has moved"
        yield CutOff(f"{users(forwarded['clients'], what)} through this qmon", " and will get I/O errors")
    if (forwarded := info.get("x-qmon-forwarded-here")) and forwarded["clients"]:
        yield CutOff(
            f"{_clients(forwarded['clients'])} the disks here from the source", " and will get I/O errors"
        )


def _clients(count: int) -> str:
    return f"{count} client{'s' * (count != 1)} use{'s' * (count == 1)}"


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

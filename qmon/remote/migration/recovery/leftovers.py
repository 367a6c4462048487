"""Finds and removes what a console that has ended left in a QEMU. Nothing is touched that is not named qmon-.

The order is the reverse of that in which a migration makes them: a node can't go before the job that uses it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from uuid import UUID

from qmon.errors import CommandError
from qmon.qmp.target import ask, well_formed
from qmon.remote.migration.qemu import OURS, POLL_SECONDS, Qemu

END_SECONDS = 10.0
"""How long the clients of an export may take to be gone."""


@dataclass(frozen=True, slots=True)
class Leftovers:
    """The names of what a migration has made in a QEMU."""

    jobs: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    exports: tuple[str, ...] = ()
    has_other_exports: bool = False
    """Whether somebody else's exports need the NBD server."""

    def __bool__(self) -> bool:
        return bool(self.jobs or self.nodes or self.exports)

    def __str__(self) -> str:
        """``job a, node b and c, export d``"""
        kinds = (("job", self.jobs), ("node", self.nodes), ("export", self.exports))
        return ", ".join(f"{kind} {' and '.join(names)}" for kind, names in kinds if names)


async def find_leftovers(qemu: Qemu) -> Leftovers:
    """Return what there is of ours. Raises CommandError."""
    jobs = await ask(qemu.remote, "query-jobs", [])
    nodes = await ask(qemu.remote, "query-named-block-nodes", [])
    exports = await ask(qemu.remote, "query-block-exports", [])
    with well_formed():
        ids = [each["id"] for each in exports]
        return Leftovers(
            _ours(each["id"] for each in jobs),
            _ours(each["node-name"] for each in nodes),
            _ours(ids),
            any(not each.startswith(OURS) for each in ids),
        )


async def remove_leftovers(qemu: Qemu, migration: str = "") -> Leftovers:
    """Remove what there is of ours; return what it was. Raises CommandError.

    ``migration`` is the id of one whose record says that it was under way: its NBD server may have no export,
    and its descriptors no user. An NBD server that others use goes on.
    """
    found = await find_leftovers(qemu)
    await qemu.end_copies()
    for each in found.exports:
        with contextlib.suppress(CommandError):  # it may have ended meanwhile
            await qemu("block-export-del", {"id": each, "mode": "hard"})
    if found.exports:
        await _until_gone(qemu)
    if found.exports or migration:
        await stop_server(qemu)
    if migration:
        await _close_descriptors(qemu, migration)
    return found


async def stop_server(qemu: Qemu) -> None:
    """Stop the NBD server, if there is one that nobody else uses. Raises CommandError."""
    if not (await find_leftovers(qemu)).has_other_exports:
        with contextlib.suppress(CommandError):  # there is none
            await qemu("nbd-server-stop")


async def _close_descriptors(qemu: Qemu, migration: str) -> None:
    """Close what was given to QEMU and never used: it lasts longer than the connection that brought it."""
    mark = UUID(migration).hex[:6]
    targets = [f"qmon-t{number}-{mark}" for number in range(len(await qemu("query-block")))]
    for each in ("qmon-memory", "qmon-nbd", *targets):
        with contextlib.suppress(CommandError):  # most were used
            await qemu("closefd", {"fdname": each})


async def _until_gone(qemu: Qemu) -> None:
    deadline = asyncio.get_running_loop().time() + END_SECONDS
    while (left := await find_leftovers(qemu)).exports:
        if asyncio.get_running_loop().time() > deadline:
            raise CommandError(f"{left} does not end")
        await asyncio.sleep(POLL_SECONDS)


def _ours(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(each for each in names if each.startswith(OURS)))

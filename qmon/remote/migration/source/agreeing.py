"""Agreeing: the source's console compares both sides, and decides which disks are copied where."""

from __future__ import annotations

import asyncio

from qmon.errors import ProblemsError, QmonError
from qmon.remote.migration.agreement.inventory import Inventory, take_inventory
from qmon.remote.migration.agreement.matching import Plan, match
from qmon.remote.migration.agreement.sides import wrong_with_source
from qmon.remote.migration.copies import Copy
from qmon.remote.migration.source.outgoing import Outgoing
from qmon.remote.migration.wire.peer import Peer


async def agree(outgoing: Outgoing) -> Plan:
    """Connect, and compare both sides. Nothing is changed. Raises ProblemsError, QmonError."""
    ours, theirs = await _look_at_both(outgoing)
    plan = match(ours, theirs, inc=outgoing.inc)
    if plan.refusals:
        raise ProblemsError(plan.refusals)
    if not plan.pairs:
        raise QmonError("there is no disk to copy: use 'migrate' without blk")
    await outgoing.checks.prove(plan, outgoing.settings.verify_copy, inc=outgoing.inc)
    mark = outgoing.id.replace("-", "")[:6]
    outgoing.plan = plan
    outgoing.copies = [
        Copy(each.source, each.destination, *(f"qmon-{kind}{n}-{mark}" for kind in "mtx"))
        for n, each in enumerate(plan.pairs)
    ]
    outgoing.runs = ours.status == "running"
    return plan


async def _look_at_both(outgoing: Outgoing) -> tuple[Inventory, Inventory]:
    """Return the source's inventory and the destination's. What is wrong here is said first."""
    there = asyncio.create_task(_inventory_there(outgoing.peer))
    try:
        await outgoing.guardian.launch(outgoing.remote)  # it starts meanwhile
        ours = await take_inventory(outgoing.remote)
        if ours.obstacles:
            raise ProblemsError(list(wrong_with_source(ours)))
        return ours, await there
    finally:
        there.cancel()
        await asyncio.wait([there])
        if not there.cancelled():
            there.exception()  # what is wrong here says more


async def _inventory_there(peer: Peer) -> Inventory:
    await peer.connect()
    return Inventory.from_message(await peer.ask("inventory"))

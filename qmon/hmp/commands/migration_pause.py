"""Pauses a migration, and listens again for one that is paused."""

from __future__ import annotations

from qmon.hmp.commands.address_hints import with_address_hint
from qmon.hmp.handlers import Call, handler


@handler("hmp_migrate_pause", "migrate-pause")
async def migrate_pause(call: Call) -> None:
    await call.execute("migrate-pause")


@handler("hmp_migrate_recover", "migrate-recover")
@with_address_hint
async def migrate_recover(call: Call) -> None:
    await call.execute("migrate-recover", {"uri": call.text("uri")})

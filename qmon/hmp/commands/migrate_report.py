"""``migrate_report``: the record of a migration as a page in a file."""

from __future__ import annotations

from qmon.hmp.handlers import Call, handler


@handler("hmp_migrate_report", "x-qmon-migrate-report")
async def migrate_report(call: Call) -> None:
    await call.execute("x-qmon-migrate-report", {"file": call.text("filename")})

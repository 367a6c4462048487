"""``info migrate``: a form for a person at a terminal; QEMU's for programs, and with ``-a``."""

from __future__ import annotations

from typing import Any

from qmon.hmp.commands.migration_form import Facts, form_lines
from qmon.hmp.commands.migration_info import migration_lines
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import columns_of


@handler("hmp_info_migrate", "query-migrate")
async def info_migrate(call: Call) -> None:
    info = await call.execute("query-migrate")
    if call.flag("all") or not call.person.interactive:
        lines = migration_lines(info)
    else:
        lines = form_lines(await _facts(call, info), columns_of(call.person))
    for line in lines:
        call.print(line)


async def _facts(call: Call, info: dict[str, Any]) -> Facts:
    """Ask for what else the form shows, as far as the target has it."""

    async def ask(command: str, default: Any) -> Any:
        return await call.execute(command) if call.has(command) else default

    status = await ask("query-status", {})
    capabilities = await ask("query-migrate-capabilities", [])
    pauses = any(each["state"] for each in capabilities if each["capability"] == "pause-before-switchover")
    pauses = pauses and info.get("x-qmon-waits") is not False  # else it is qmon that has turned it on
    return Facts(info, await ask("query-migrate-parameters", {}), status.get("status", ""), pauses)

"""``info migrate``: a form for a person at a terminal; QEMU's for programs, and with ``-a``."""

from __future__ import annotations

from typing import Any

from qmon.hmp.commands.migration_chart import ASCII, BLOCKS, chart_lines, plain_lines
from qmon.hmp.commands.migration_form import Facts, form_lines
from qmon.hmp.commands.migration_info import migration_lines
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import columns_of, draws

TIMELINE = "x-qmon-query-migrate-timeline"


@handler("hmp_info_migrate", "query-migrate")
async def info_migrate(call: Call) -> None:
    if call.flag("timeline"):
        await _show_timeline(call)
        return
    info = await call.execute("query-migrate")
    if call.flag("all") or not call.person.interactive:
        lines = migration_lines(info)
    else:
        lines = form_lines(await _facts(call, info), columns_of(call.person))
    for line in lines:
        call.print(line)


async def _show_timeline(call: Call) -> None:
    timeline = await call.execute(TIMELINE)
    if call.person.interactive:
        lines = chart_lines(timeline, columns_of(call.person), BLOCKS if draws(call.person) else ASCII)
    else:
        lines = plain_lines(timeline)
    for line in lines:
        call.print(line)


async def _facts(call: Call, info: dict[str, Any]) -> Facts:
    """Ask for what else the form shows, as far as the target has it."""

    async def ask(command: str, default: Any) -> Any:
        return await call.execute(command) if call.has(command) else default

    status = await ask("query-status", {})
    capabilities = await ask("query-migrate-capabilities", [])
    on = {each["capability"] for each in capabilities if each["state"]}
    is_qmons = info.get("x-qmon-waits") is False  # it is qmon that has turned it on
    pauses = "pause-before-switchover" in on and not is_qmons
    parameters = await ask("query-migrate-parameters", {})
    return Facts(info, parameters, status.get("status", ""), pauses, has_channels="multifd" in on)

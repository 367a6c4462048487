"""Reset, power-off and watchdog."""

from __future__ import annotations

from string import ascii_lowercase, ascii_uppercase

from qmon.hmp.commands.choices import execute_choice
from qmon.hmp.handlers import Call, handler

_ASCII_LOWER = str.maketrans(ascii_uppercase, ascii_lowercase)


@handler("hmp_system_reset", "system_reset")
async def system_reset(call: Call) -> None:
    await call.execute("system_reset")


@handler("hmp_system_powerdown", "system_powerdown")
async def system_powerdown(call: Call) -> None:
    await call.execute("system_powerdown")


@handler("hmp_watchdog_action", "watchdog-set-action")
async def watchdog_action(call: Call) -> None:
    action = call.text("action").translate(_ASCII_LOWER)
    await execute_choice(call, "watchdog-set-action", {"action": action})

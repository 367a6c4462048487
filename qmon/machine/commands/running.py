"""Reset, power-off and watchdog, as far as they mean something without a guest."""

from __future__ import annotations

from typing import Any

from qmon.machine.machine import Machine
from qmon.machine.runstate import RunState
from qmon.qmp.registry import command


class RunningCommands:
    """Commands of QAPI's machine.json and run-state.json."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("system_reset")
    async def system_reset(self) -> dict[str, Any]:
        """Emit RESET. A stopped machine goes to the state prelaunch, as in QEMU.

        QEMU does so even after a migration. This machine does not: without its disks it must not run.
        """
        if self._machine.state is RunState.PAUSED:
            self._machine.set_state(RunState.PRELAUNCH)
        self._machine.registry.events.emit("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        return {}

    @command("system_powerdown")
    async def system_powerdown(self) -> dict[str, Any]:
        """Emit POWERDOWN. There is no guest that could power off."""
        self._machine.registry.events.emit("POWERDOWN")
        return {}

    @command("watchdog-set-action")
    async def watchdog_set_action(self, action: str) -> dict[str, Any]:
        """Accept every action. There is no watchdog that could use it."""
        return {}

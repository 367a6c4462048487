"""Reset, power-off and watchdog: what there is of them without a guest."""

from __future__ import annotations

from typing import Any, Literal

from qmon.machine.machine import Machine
from qmon.machine.runstate import RunState
from qmon.qmp.registry import command


class RunningCommands:
    """Commands of QAPI's machine.json and run-state.json."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("system_reset")
    async def system_reset(self) -> dict[str, Any]:
        """Say RESET; a machine that was stopped is one then that has not begun to run.

        With QEMU that goes for a machine whose disks were handed over too. Here it does not: it must not run.
        """
        if self._machine.state is RunState.PAUSED:
            self._machine.set_state(RunState.PRELAUNCH)
        self._machine.registry.events.emit("RESET", {"guest": False, "reason": "host-qmp-system-reset"})
        return {}

    @command("system_powerdown")
    async def system_powerdown(self) -> dict[str, Any]:
        """Say POWERDOWN: there is no guest that would switch itself off upon it."""
        self._machine.registry.events.emit("POWERDOWN")
        return {}

    @command("watchdog-set-action")
    async def watchdog_set_action(
        self, action: Literal["reset", "shutdown", "poweroff", "pause", "debug", "none", "inject-nmi"]
    ) -> dict[str, Any]:
        """Take any of the actions: there is no watchdog that could come to one."""
        return {}

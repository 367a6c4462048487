"""The commands of the machine as a whole: its state, its name, quit."""

from __future__ import annotations

import logging
from typing import Any

from qmon.errors import CommandError
from qmon.host.logs import TOLD_BY_MONITOR
from qmon.machine.machine import Machine
from qmon.machine.runstate import RunState
from qmon.notation.way_back import CONTINUED_HERE, WAY_BACK
from qmon.qmp.registry import command
from qmon.version import version_info

log = logging.getLogger("qmon.machine")


class GeneralCommands:
    """Commands of QAPI's control.json and misc.json."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    @command("query-status")
    async def query_status(self) -> dict[str, Any]:
        machine = self._machine
        return {
            "running": machine.is_running,
            "singlestep": False,
            "status": machine.state.value,
        }

    @command("query-name")
    async def query_name(self) -> dict[str, Any]:
        return {} if self._machine.name is None else {"name": self._machine.name}

    @command("query-uuid")
    async def query_uuid(self) -> dict[str, Any]:
        return {"UUID": self._machine.uuid}

    @command("query-version")
    async def query_version(self) -> dict[str, Any]:
        return version_info()

    @command("stop")
    async def stop(self) -> dict[str, Any]:
        """Stop the machine. During an incoming migration: leave it paused at the end, as in QEMU."""
        match self._machine.state:
            case RunState.INMIGRATE:
                self._machine.autostart = False
            case RunState.FINISH_MIGRATE:
                raise CommandError("Migration is not finalized yet")
            case _:
                await self._machine.stop()
        return {}

    @command("cont")
    async def cont(self, x_qmon_force: bool | None = None) -> dict[str, Any]:
        """Run the machine; with ``x-qmon-force`` even if its disks have moved to another host."""
        match self._machine.state:
            case RunState.INMIGRATE:
                self._machine.autostart = True
            case RunState.FINISH_MIGRATE:
                raise CommandError("Migration is not finalized yet")
            case RunState.POSTMIGRATE if await self._is_unconfirmed():
                await self._machine.registry.execute("x-qmon-migrate-resolve", {"action": "keep"})
                log.warning("%s", CONTINUED_HERE, extra=TOLD_BY_MONITOR)
                if self._machine.state in (RunState.PRELAUNCH, RunState.PAUSED):
                    await self._machine.run()
            case RunState.POSTMIGRATE if x_qmon_force:
                await self._machine.registry.execute("x-qmon-migrate-resolve", {"action": "keep"})
            case RunState.POSTMIGRATE:
                raise CommandError(
                    "A migration has moved the disks: the destination uses them now, and two machines on one"
                    f" disk would destroy it: {WAY_BACK}"
                )
            case RunState.PRELAUNCH | RunState.PAUSED:
                await self._machine.run()
        return {}

    async def _is_unconfirmed(self) -> bool:
        """Whether the disks are still here, because nobody could answer the migration."""
        return bool((await self._machine.registry.execute("query-migrate")).get("x-qmon-unconfirmed"))

    @command("quit")
    async def quit(self) -> dict[str, Any]:
        self._machine.request_quit()
        return {}

"""What both sides ask of their QEMU while a migration runs, each by a few QMP commands."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, ConnectionLostError
from qmon.remote.remote import Remote

OURS = "qmon-"
"""What the names of all that a migration makes in a QEMU begin with."""
POLL_SECONDS = 0.02
UNANSWERED_SECONDS = 2.0
"""After this time without an answer a QEMU counts as stuck on its line, which is then yanked."""

ENDED_THERE = "the QEMU at the destination has ended"
"""What both consoles say of it."""

OVER = ("none", "completed", "failed", "cancelled")
"""The statuses of a migration that does not run."""


class Qemu:
    """A running QEMU behind a connection. Each method raises CommandError, also for a lost connection."""

    def __init__(self, remote: Remote) -> None:
        self.remote = remote

    async def __call__(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        return await self.remote.execute(command, arguments)

    async def freeing(self, command: str, arguments: Mapping[str, Any] | None = None) -> Any:
        """Run a command. While it is not answered, cut our lines, for one of which QEMU may wait."""
        task = asyncio.ensure_future(self(command, arguments))
        while not (await asyncio.wait([task], timeout=UNANSWERED_SECONDS))[0]:
            await self.yank()
        return task.result()

    # Settings

    async def differing(self, wanted: Mapping[str, bool]) -> dict[str, bool]:
        """Return the capabilities that are not as wanted, as they are; unknown ones are left out."""
        now = {each["capability"]: each["state"] for each in await self("query-migrate-capabilities")}
        return {name: now[name] for name, state in wanted.items() if now.get(name, state) != state}

    async def set_capabilities(self, states: Mapping[str, bool]) -> None:
        if states:
            listed = [{"capability": name, "state": state} for name, state in states.items()]
            await self("migrate-set-capabilities", {"capabilities": listed})

    async def set_parameters(self, values: Mapping[str, Any]) -> None:
        if values:
            await self("migrate-set-parameters", values)

    # The memory's migration

    async def migration(self) -> dict[str, Any]:
        found: dict[str, Any] = await self("query-migrate")
        return found

    async def status(self) -> str:
        """Return the status of the memory's migration, ``none`` without one."""
        return str((await self.migration()).get("status", "none"))

    async def run_state(self) -> str:
        return str((await self("query-status"))["status"])

    async def give_up(self, *, line_is_lost: bool) -> str:
        """End the memory's migration; return its last status, ``completed`` if it was too late."""
        if line_is_lost:
            await self.yank()
        asked = False
        while True:
            try:
                async with asyncio.timeout(UNANSWERED_SECONDS):
                    status = await self.status()
                    if status in OVER:
                        return status
                    if not asked and status != "cancelling":
                        asked = True
                        await self("migrate_cancel")
            except TimeoutError:
                await self.yank()
            await asyncio.sleep(POLL_SECONDS)

    async def yank(self) -> None:
        """Cut the QEMU's connections of ours, out of band: it works while everything else hangs."""
        if not self.remote.takes_out_of_band or "yank" not in self.remote.commands():
            return
        with contextlib.suppress(CommandError):  # an instance that is gone needs no yank
            for each in await self.remote.execute_out_of_band("query-yank"):
                name = str(each.get("node-name", ""))
                if each.get("type") == "migration" or name.startswith("qmon-"):
                    await self.remote.execute_out_of_band("yank", {"instances": [each]})

    async def exports_ours(self) -> bool:
        """Whether its NBD server, which is ours then, has exports of ours."""
        return any(each["id"].startswith("qmon-") for each in await self("query-block-exports"))

    # The copies of the disks

    async def jobs(self, *, frees: bool = False) -> dict[str, dict[str, Any]]:
        """Return our jobs by their ids (QAPI: JobInfo); with ``frees`` as ``freeing``."""
        listed = await (self.freeing if frees else self)("query-jobs")
        return {each["id"]: each for each in listed if each["id"].startswith("qmon-")}

    async def end_copies(self) -> None:
        """End all jobs of ours without a result, also on a silent line, and remove their nodes.

        QEMU flushes a node before it removes it: on a silent line that hangs, and the guest with it.
        """
        for job in await self.jobs(frees=True):
            await self.end_job(job)
        for each in await self("query-named-block-nodes"):
            if each["node-name"].startswith("qmon-"):
                await self.freeing("blockdev-del", {"node-name": each["node-name"]})

    async def end_job(self, job: str, patience: float = UNANSWERED_SECONDS) -> None:
        """End a job without a result, also on a silent line, and remove what is left of it.

        After ``patience`` seconds its line is cut.
        """
        deadline = asyncio.get_running_loop().time() + patience
        while True:
            found = (await self.jobs(frees=True)).get(job)
            if found is None:
                return
            if found["status"] == "concluded":
                break
            with contextlib.suppress(CommandError):  # it may have ended meanwhile
                await self.freeing("block-job-cancel", {"device": job, "force": True})
            if asyncio.get_running_loop().time() > deadline:
                await self.yank()
            await asyncio.sleep(POLL_SECONDS)
        await self("job-dismiss", {"id": job})


def is_lost(error: BaseException) -> bool:
    """Whether a command failed because the connection to the QEMU was lost."""
    return isinstance(error, ConnectionLostError)

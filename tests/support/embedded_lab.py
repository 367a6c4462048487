"""Embedded machines for a test: started, given commands as a monitor gives them, and closed."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from qmon.errors import CommandError
from qmon.host.paths import state_folder
from qmon.machine.embedded import EmbeddedMachine
from qmon.migration.patience import PATIENCE as ORDINARY
from qmon.migration.patience import Patience
from qmon.notation.drive_options import DriveOptions
from qmon.qmp.target import Event
from tests.support.nbd_client import NbdClient
from tests.support.results import check_event, check_result
from tests.support.waiting import PATIENCE

SIZE = 1 << 20


class LabMachine:
    """A machine and what it has told."""

    def __init__(self, machine: EmbeddedMachine) -> None:
        self.embedded = machine
        self.events: list[Event] = []
        self._closed = False
        machine.registry.subscribe(self._hear)

    def _hear(self, event: Event) -> None:
        check_event(event)
        self.events.append(event)

    async def close(self) -> None:
        """End the machine; a second call does nothing."""
        if not self._closed:
            self._closed = True
            await self.embedded.close()

    @property
    def told(self) -> list[str]:
        """The events so far; a migration's by its status."""
        return [event.data.get("status", event.name) for event in self.events]

    async def qmp(self, command: str, **arguments: Any) -> Any:
        """Run a command; an underscore in an argument's name is a hyphen."""
        named = {name.replace("_", "-"): value for name, value in arguments.items()}
        result = await self.embedded.registry.execute(command, named)
        check_result(command, result)
        return result

    async def qmp_error(self, command: str, **arguments: Any) -> str:
        """What a command that must fail says."""
        with pytest.raises(CommandError) as caught:
            await self.qmp(command, **arguments)
        return str(caught.value)

    async def status(self) -> str:
        return str((await self.qmp("query-status"))["status"])

    async def migration(self) -> str:
        return str((await self.qmp("query-migrate")).get("status", "none"))

    async def until(self, query: Callable[[], Awaitable[str]], *wanted: str) -> str:
        """Wait for one of some states."""
        for _ in range(int(PATIENCE * 200)):
            seen = await query()
            if seen in wanted:
                return seen
            await asyncio.sleep(1 / 200)
        raise AssertionError(f"it is '{seen}' and never became one of {wanted}")

    async def wait_migration(self, *wanted: str) -> str:
        """Wait for one of the migration's statuses; return it."""
        return await self.until(self.migration, *wanted)

    async def wait_status(self, *wanted: str) -> str:
        """Wait for one of some run states; return it."""
        return await self.until(self.status, *wanted)

    async def export(self, path: Path, *drives: str) -> None:
        await self.qmp("nbd-server-start", addr={"type": "unix", "data": {"path": str(path)}})
        for drive in drives:
            await self.qmp("nbd-server-add", device=drive, writable=True)


class EmbeddedLab:
    """Starts machines, all of which are closed at the end."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self.folder = folder
        self._stack = stack

    def image(self, name: str, content: bytes = b"") -> Path:
        """An image of SIZE bytes, zeros behind ``content``."""
        path = self.folder / name
        path.write_bytes(content)
        with path.open("r+b") as file:
            file.truncate(SIZE)
        return path

    def settings(self, path: Path, id: str = "d0", *, read_only: bool = False) -> DriveOptions:
        return DriveOptions(id, str(path), "raw", "none", read_only)

    async def start(self, *drives: DriveOptions, **options: Any) -> LabMachine:
        """Raises CommandError."""
        machine = LabMachine(EmbeddedMachine(state_folder=state_folder(), **options))
        self._stack.push_async_callback(machine.close)
        await machine.embedded.start(drives)
        machine.events.clear()
        return machine

    async def one(self, **options: Any) -> LabMachine:
        """A running machine with the drive d0 on d0.img."""
        return await self.start(self.settings(self.image("d0.img")), **options)

    async def pair(self, patience: Patience = ORDINARY, **options: Any) -> tuple[LabMachine, LabMachine, str]:
        """A machine with a disk of data, one that waits for it with ``options``, and the way there."""
        uri = f"unix:{self.folder}/in"
        there, here = self.settings(self.image("b.img")), self.settings(self.image("a.img", b"data" * 1024))
        source = await self.start(here, patience=patience)
        target = await self.start(there, incoming=uri, patience=patience, **options)
        return source, target, uri

    async def pair_deferred(self, patience: Patience = ORDINARY) -> tuple[LabMachine, LabMachine, Path]:
        """The same, but the destination waits for migrate-incoming; and its image."""
        there, here = self.image("b.img"), self.settings(self.image("a.img", b"data" * 1024))
        source = await self.start(here, patience=patience)
        return source, await self.start(self.settings(there), incoming="defer", patience=patience), there

    def guest(self, path: Path, drive: str = "d0") -> NbdClient:
        """A client of an export; blocks."""
        return NbdClient(path).go(drive)


Scene = Callable[[EmbeddedLab], Awaitable[None]]
Play = Callable[[Scene], None]


def play_in(folder: Path) -> Play:
    """A function that runs a scene in a lab of its own."""

    async def within(scene: Scene) -> None:
        async with AsyncExitStack() as stack:
            async with asyncio.timeout(3 * PATIENCE):
                await scene(EmbeddedLab(folder, stack))

    return lambda scene: asyncio.run(within(scene))

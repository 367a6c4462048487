"""The commands that start, steer and end migrations, and query-migrate (QAPI: migration.json)."""

from __future__ import annotations

import os
import stat
from typing import Any

from qmon.errors import CommandError
from qmon.machine.exports import Exports
from qmon.machine.machine import Machine
from qmon.machine.migration.migrations import Migrations
from qmon.migration.parameters import NOT_PAUSABLE
from qmon.migration.phases import Phase
from qmon.migration.states import Event
from qmon.migration.wire.transport import FilePlace, parse_uri
from qmon.qmp.registry import command


class MigrationCommands:
    """For a machine's migrations, and the exports that ``query-migrate`` tells of."""

    def __init__(self, machine: Machine, exports: Exports, migrations: Migrations) -> None:
        self._machine = machine
        self._exports = exports
        self._migrations = migrations
        self._outgoing = migrations.outgoing
        self._incoming = migrations.incoming

    @command("migrate")
    async def migrate(
        self,
        uri: str,
        blk: bool | None = None,
        inc: bool | None = None,
        detach: bool | None = None,
        resume: bool | None = None,
    ) -> dict[str, Any]:
        """Start a migration. ``detach`` is for HMP and has no effect here, as in QEMU."""
        if resume:
            await self._outgoing.resume(uri)
        else:
            await self._outgoing.start(uri, blk=bool(blk), inc=bool(inc))
        return {}

    @command("x-qmon-query-migrate-file")
    async def query_file(self, uri: str) -> dict[str, Any]:
        """Return how much of an existing file a migration to ``file:`` would lose, in bytes."""
        place = parse_uri(uri).place
        if not isinstance(place, FilePlace):
            raise CommandError(f"'{uri}' is no file: use file:PATH")
        size = await self._machine.blocking(_regular_size, place.path)
        return {"path": place.path, "lost": max(0, size - place.offset)}

    @command("migrate-incoming")
    async def migrate_incoming(self, uri: str) -> dict[str, Any]:
        await self._incoming.begin(uri)
        return {}

    @command("migrate_cancel")
    async def cancel(self) -> dict[str, Any]:
        await self._migrations.cancel()
        return {}

    @command("migrate-continue")
    async def go_on(self, state: str) -> dict[str, Any]:
        """End the pause before the switchover. Fails unless the migration is in the state ``state``."""
        self._outgoing.go_on(state)
        return {}

    @command("migrate-start-postcopy")
    async def start_postcopy(self) -> dict[str, Any]:
        """Fail, or do nothing if QEMU does nothing. Postcopy is for guest RAM, and there is none."""
        if not self._migrations.settings.capabilities["postcopy-ram"]:
            raise CommandError("Enable postcopy with migrate_set_capability before the start of migration")
        if self._outgoing.phase is Phase.NONE:
            raise CommandError("Postcopy must be started after migration has been started")
        if self._outgoing.is_under_way:
            raise CommandError("Postcopy is for guest RAM, and this machine has none")
        return {}

    @command("migrate-pause")
    async def pause(self) -> dict[str, Any]:
        """Close the line of the migration that is under way, on either side; both keep what they have."""
        side = self._outgoing.source if self._outgoing.is_under_way else self._incoming.receiver
        if side is None:
            raise CommandError(NOT_PAUSABLE)
        side.pause()
        return {}

    @command("migrate-recover")
    async def recover(self, uri: str) -> dict[str, Any]:
        """Listen at an address for the source of a paused migration."""
        await self._incoming.recover(uri)
        return {}

    @command("x-qmon-migrate-resolve")
    async def resolve(self, action: str) -> dict[str, Any]:
        """Decide which side has the disks if it is in doubt: ``keep`` this one, ``release`` the other."""
        await self._migrations.resolve(Event.KEEP if action == "keep" else Event.RELEASE)
        return {}

    @command("query-migrate")
    async def query(self) -> dict[str, Any]:
        """Return a MigrationInfo of the outgoing or else the incoming migration, and where one is awaited."""
        info = self._outgoing.describe()
        if self._outgoing.source is None:
            info = self._incoming.describe()
            drives = [name for name in self._machine.drives if not self._exports.exports_of(name)]
            if info.get("status") == "completed" and drives:
                info["x-qmon-unreachable"] = {"drives": drives, "nbd-server": self._exports.is_serving}
        if served := self._migrations.clients.served_here():
            info["x-qmon-forwarded-here"] = served
        return info | self._incoming.describe_entrance()


def _regular_size(path: str) -> int:
    """Return the size of a file in bytes, 0 if there is no file. Other errors are told when it is opened."""
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0

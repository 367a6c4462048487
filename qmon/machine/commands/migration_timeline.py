"""The commands about the record of a migration: its time line, and the report of it in a file."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError, reason
from qmon.machine.commands.migration import MigrationCommands
from qmon.machine.machine import Machine
from qmon.machine.migration.migrations import Migrations
from qmon.machine.migration.recorder import describe_timeline
from qmon.machine.output_file import write_own_file
from qmon.migration.parameters import PARAMETERS
from qmon.migration.report.findings import Facts
from qmon.migration.report.page import SIGN, page
from qmon.qmp.registry import command
from qmon.version import VERSION


class TimelineCommands:
    """See ``spec/qmp/x-qmon.json``."""

    def __init__(self, machine: Machine, migrations: Migrations, commands: MigrationCommands) -> None:
        self._machine = machine
        self._migrations = migrations
        self._commands = commands

    @command("x-qmon-query-migrate-timeline")
    async def query(self) -> dict[str, Any]:
        info, progress = await self._commands.query(), self._migrations.progress
        if progress is None:
            return {"status": "none", "points": [], "marks": []}
        shown = ("status", "x-qmon-side", "x-qmon-peer", "x-qmon-id", "total-time")
        return {name: info[name] for name in shown if name in info} | describe_timeline(progress.timeline)

    @command("x-qmon-migrate-report")
    async def report(self, file: str) -> dict[str, Any]:
        """Write the report. A file is replaced only by the report that it is."""
        if self._migrations.progress is None:
            raise CommandError("There is nothing to report: there was no migration")
        settings = self._migrations.settings
        facts = Facts(
            await self._commands.query(),
            await self.query(),
            settings.parameters.shown(),
            {row.name: row.default for row in PARAMETERS},
            settings.capabilities.in_words(),
            self._machine.name or "",
            VERSION,
        )
        images = list(self._machine.disks.image_files())
        try:
            await self._machine.blocking(lambda: write_own_file(file, page(facts), SIGN, images))
        except (OSError, ValueError) as error:
            raise CommandError(f"The report can't be written to '{file}': {reason(error)}") from error
        return {}

"""``blockdev-create``: a job that makes a file or an image (QAPI: block-core.json)."""

from __future__ import annotations

import asyncio
from typing import Any

from qmon.block.image_file import open_image_file
from qmon.block.locks import ImageLockedError
from qmon.block.new_file import FILLING
from qmon.errors import CommandError, UsageError, reason
from qmon.machine.conflicts import conflict, used_by_export, used_by_node
from qmon.machine.drive import Drive
from qmon.machine.exports import Exports
from qmon.machine.holding import holding
from qmon.machine.jobs.job import Job, Work
from qmon.machine.jobs.table import Jobs
from qmon.machine.machine import Machine
from qmon.machine.new_images import Check, Options, fill_place, new_file, qcow2_image
from qmon.notation.node_reader import NodeReader, flatten
from qmon.qmp.registry import command

CREATE = "blockdev-create"
DRIVERS = ("file", "qcow2")


class _Creation(Work):
    kind = "create"

    def __init__(self, commands: CreateCommands, options: Options) -> None:
        self._commands = commands
        self._options = options

    async def run(self, job: Job) -> None:
        job.total = 1
        try:
            await self._commands.make(self._options, job.check)
        except ImageLockedError as error:
            raise CommandError(error.why) from error
        finally:
            job.done = 1


class CreateCommands:
    """As in QEMU, what a file had before is lost; a file that something uses is left as it is."""

    def __init__(self, machine: Machine, exports: Exports, jobs: Jobs) -> None:
        self._machine = machine
        self._exports = exports
        self._jobs = jobs

    @command("blockdev-create")
    async def create(self, job_id: str, options: dict[str, Any]) -> dict[str, Any]:
        if options["driver"] not in DRIVERS:
            raise CommandError("Driver does not support blockdev-create")
        await self._jobs.create(Job, job_id, _Creation(self, options)).start()
        return {}

    async def make(self, options: Options, check: Check) -> None:
        """Make a file or an image. Raises CommandError, OSError, and what ``check`` raises."""
        if options["driver"] == "file":
            await asyncio.to_thread(new_file, options, check)
        elif isinstance(options["file"], str):
            await self._fill_node(options["file"], options, check)
        else:
            await asyncio.to_thread(self._fill_file, self._file_name(options["file"]), options, check)

    async def _fill_node(self, name: str, options: Options, check: Check) -> None:
        """Make a qcow2 image in a node that nothing uses."""
        drive, below = self._machine.disks.find_node(name, name)
        image = qcow2_image(options)
        self._check_free(drive, name, below)
        async with holding(self._machine, [drive], CREATE):
            try:
                await asyncio.to_thread(fill_place, drive.node, drive.file, options, image, check)
            finally:
                await self._machine.blocking(drive.chain.look)

    def _check_free(self, drive: Drive, name: str, below: str | None) -> None:
        """Raises CommandError if the node can't be filled; ``below`` is its name if it is not on top."""
        if below is not None:
            user = next((above for above, file in drive.names.pairs if file == below), drive.names.shown)
            raise conflict(name, "write, resize", used_by_export(name), used_by_node(user, name, "file"))
        if drive.read_only:
            raise CommandError("Block node is read-only")
        if self._exports.exports_of(drive.id):
            raise conflict(name, "resize", used_by_export(name), used_by_export(name))
        if drive.format != "raw":
            raise CommandError(f"Node '{name}' is a {drive.format} image: name a file's node")

    def _file_name(self, node: dict[str, Any]) -> str:
        """Return the name of the file that a node's options describe. Raises CommandError."""
        try:
            spec = NodeReader().read(flatten(node))
        except UsageError as error:
            raise CommandError(str(error)) from error
        if spec.format != "raw" or spec.read_only:
            raise CommandError(f"qcow2: expected a writable file, found driver '{node['driver']}'")
        return spec.file

    def _fill_file(self, name: str, options: Options, check: Check) -> None:
        try:
            file = open_image_file(name, read_only=False, locks=None)
        except (OSError, ValueError) as error:
            raise CommandError(f"Could not open '{name}': {reason(error)}") from error
        try:
            file.change_locks(FILLING)
            fill_place(file, file, options, qcow2_image(options), check)
        finally:
            file.close()

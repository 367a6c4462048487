"""Guest memory, of which there is none: what QEMU does with it all the same."""

from __future__ import annotations

import os
import re
from typing import Any, Literal

from qmon.errors import CommandError, reason
from qmon.machine.commands.fds import DescriptorCommands
from qmon.machine.machine import Machine
from qmon.machine.output_file import check_writable, open_output
from qmon.machine.runstate import RunState
from qmon.qmp.registry import command

_MISSING_FORMATS = ("kdump-lzo", "kdump-snappy")
_PROTOCOL = re.compile(r"(?P<kind>file|fd):(?P<name>.*)", re.DOTALL)


class MemoryCommands:
    """Commands of QAPI's machine.json and dump.json."""

    def __init__(self, machine: Machine, descriptors: DescriptorCommands) -> None:
        self._machine = machine
        self._descriptors = descriptors
        self._dump_failed = False

    @command("pmemsave")
    async def pmemsave(self, val: int, size: int, filename: str) -> dict[str, Any]:
        """Save ``size`` bytes: where there is no memory, zeros are read."""
        if size < 0:
            raise CommandError("Parameter 'size' expects a size that is not negative")
        await self._machine.blocking(_write_zeros, filename, size, image_files(self._machine))
        return {}

    @command("dump-guest-memory")
    async def dump_guest_memory(
        self,
        paging: bool,
        protocol: str,
        detach: bool | None = None,
        begin: int | None = None,
        length: int | None = None,
        format: Literal[
            "elf", "kdump-zlib", "kdump-lzo", "kdump-snappy", "kdump-raw-zlib", "win-dmp"
        ] = "elf",
    ) -> dict[str, Any]:
        """Fail, in the order in which QEMU finds what is wrong; no file is made or cut."""
        if self._machine.state is RunState.INMIGRATE:
            raise CommandError("Dump not allowed during incoming migration.")
        if format != "elf" and (paging or begin is not None or length is not None):
            raise CommandError("kdump-compressed format doesn't support paging or filter")
        if begin is not None and length is None:
            raise CommandError("Parameter 'length' is missing")
        if length is not None and begin is None:
            raise CommandError("Parameter 'begin' is missing")
        if format in _MISSING_FORMATS:
            raise CommandError(f"{format} is not available now")
        where = _PROTOCOL.fullmatch(protocol)
        if where is None:
            raise CommandError("Invalid parameter 'protocol'")
        if where["kind"] == "fd":
            os.close(self._descriptors.take(where["name"]))
        else:
            await self._machine.blocking(_check, where["name"], image_files(self._machine))
        self._dump_failed = True
        if length == 0:
            raise CommandError("Invalid parameter 'length'")
        raise CommandError("dump: no guest memory to dump")

    @command("query-dump")
    async def query_dump(self) -> dict[str, Any]:
        return {"status": "failed" if self._dump_failed else "none", "completed": 0, "total": 0}


def image_files(machine: Machine) -> list[str]:
    """The files that the machine's drives are made of, as far as they are told by name."""
    return [drive.settings.file for drive in machine.drives.values()]


def _write_zeros(path: str, size: int, images: list[str]) -> None:
    try:
        with open_output(path, images) as descriptor:
            os.ftruncate(descriptor, 0)
            os.ftruncate(descriptor, size)
    except (OSError, ValueError) as error:  # a path with a null byte
        raise CommandError(f"Could not open '{path}': {reason(error)}") from error


def _check(path: str, images: list[str]) -> None:
    try:
        check_writable(path, images)
    except (OSError, ValueError) as error:
        raise CommandError(f"Could not open '{path}': {reason(error)}") from error

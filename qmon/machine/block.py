"""The commands around drives and their images (QAPI: block-core.json)."""

from __future__ import annotations

import itertools
import os
from typing import Any

from qmon.errors import CommandError, DeviceNotFoundError
from qmon.machine.drive import Drive, DriveSettings, is_identifier
from qmon.machine.exports import ExportCommands
from qmon.machine.machine import Machine
from qmon.qmp.registry import command


class BlockCommands:
    """Drives come, go and are shown; with a drive go its exports."""

    def __init__(self, machine: Machine, exports: ExportCommands) -> None:
        self._machine = machine
        self._exports = exports

    @command("query-block")
    async def query_block(self) -> list[dict[str, Any]]:
        return [self._describe(drive) for drive in self._machine.drives.values()]

    @staticmethod
    def _describe(drive: Drive) -> dict[str, Any]:
        """A BlockInfo."""
        filename = drive.settings.file
        image: dict[str, Any] = {
            "filename": filename,
            "format": drive.format,
            "virtual-size": drive.size,
            "dirty-flag": False,
        }
        try:
            image["actual-size"] = os.stat(filename).st_blocks * 512
        except OSError:
            image["actual-size"] = 0  # the image was moved or removed under us: it can't be told
        return {
            "device": drive.id,
            "type": "unknown",
            "removable": True,
            "locked": False,
            "inserted": {
                "file": filename,
                "node-name": drive.node_name,
                "ro": drive.read_only,
                "drv": drive.format,
                "backing_file_depth": 0,
                "encrypted": False,
                "detect_zeroes": "off",
                "bps": 0,
                "bps_rd": 0,
                "bps_wr": 0,
                "iops": 0,
                "iops_rd": 0,
                "iops_wr": 0,
                "write_threshold": 0,
                "cache": {"writeback": True, "direct": False, "no-flush": False},
                "image": image,
            },
        }

    @command("x-qmon-drive-add")
    async def drive_add(
        self,
        file: str,
        id: str | None = None,
        format: str | None = None,
        if_: str | None = None,
        readonly: bool | None = None,
    ) -> dict[str, Any]:
        """Open an image as a drive; without ``id`` the first free ``noneN`` (or ``virtioN``) is taken."""
        interface = if_ or "none"
        name = self._free_id(interface) if id is None else id
        if not is_identifier(name):
            raise CommandError("Parameter 'id' expects an identifier")
        await self._machine.add_drive(DriveSettings(name, file, format, interface, bool(readonly)))
        return {"id": name}

    def _free_id(self, interface: str) -> str:
        names = (f"{interface}{number}" for number in itertools.count())
        return next(name for name in names if name not in self._machine.drives)

    @command("x-qmon-drive-del")
    async def drive_del(self, id: str) -> dict[str, Any]:
        drive = self._machine.drives.get(id)
        if drive is None:
            raise DeviceNotFoundError(id)
        self._machine.check_not_busy(drive)
        await self._exports.remove_drive(id)
        self._machine.check_not_busy(drive)  # again: other commands ran meanwhile
        await self._machine.remove_drive(drive)
        return {}

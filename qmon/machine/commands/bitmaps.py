"""The commands of dirty bitmaps (QAPI: block-core.json)."""

from __future__ import annotations

from typing import Any

from qmon.machine.bitmap_actions import (
    AddBitmap,
    BitmapAction,
    ClearBitmap,
    MergeBitmaps,
    RemoveBitmap,
    SwitchBitmap,
)
from qmon.machine.machine import Machine
from qmon.machine.transaction import run_actions
from qmon.qmp.registry import command

BITMAP = "bitmap"
"""The user of a drive in messages about a busy drive."""


class BitmapCommands:
    """Each command is an action of its own, done while the drive serves no request."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine

    async def _run(self, action: BitmapAction) -> dict[str, Any]:
        await run_actions(self._machine, [action], BITMAP)
        return {}

    @command("block-dirty-bitmap-add")
    async def add(
        self,
        node: str,
        name: str,
        granularity: int | None = None,
        persistent: bool | None = None,
        disabled: bool | None = None,
    ) -> dict[str, Any]:
        return await self._run(AddBitmap(self._machine, node, name, granularity, persistent, disabled))

    @command("block-dirty-bitmap-remove")
    async def remove(self, node: str, name: str) -> dict[str, Any]:
        return await self._run(RemoveBitmap(self._machine, node, name))

    @command("block-dirty-bitmap-clear")
    async def clear(self, node: str, name: str) -> dict[str, Any]:
        return await self._run(ClearBitmap(self._machine, node, name))

    @command("block-dirty-bitmap-enable")
    async def enable(self, node: str, name: str) -> dict[str, Any]:
        return await self._run(SwitchBitmap(self._machine, node, name, on=True))

    @command("block-dirty-bitmap-disable")
    async def disable(self, node: str, name: str) -> dict[str, Any]:
        return await self._run(SwitchBitmap(self._machine, node, name, on=False))

    @command("block-dirty-bitmap-merge")
    async def merge(self, node: str, target: str, bitmaps: list[Any]) -> dict[str, Any]:
        return await self._run(MergeBitmaps(self._machine, node, target, bitmaps))

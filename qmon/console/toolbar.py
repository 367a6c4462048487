"""The row below the prompt: the machine's state (``session`` shows an error in the typed line instead)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from prompt_toolkit.key_binding.vi_state import InputMode

from qmon.errors import QmonError, reason
from qmon.hmp.clients import count_clients
from qmon.hmp.migration_state import is_under_way
from qmon.hmp.migration_words import pace
from qmon.qmp.target import Target, ask

REFRESH_SECONDS = 0.5
SEPARATOR = " | "

VI_MODES = {
    InputMode.INSERT: "insert",
    InputMode.INSERT_MULTIPLE: "insert",
    InputMode.NAVIGATION: "command",
    InputMode.REPLACE: "replace",
    InputMode.REPLACE_SINGLE: "replace",
}
"""The toolbar's names of vi's modes."""


class Toolbar:
    """Keeps the machine's state as one line of text. It asks for it regularly; ``changed`` tells a change."""

    def __init__(self, target: Target, changed: Callable[[], None]) -> None:
        self.text = ""
        self._target = target
        self._changed = changed

    async def watch(self) -> None:
        """Ask every ``REFRESH_SECONDS`` until cancelled."""
        while True:
            await self.ask()
            await asyncio.sleep(REFRESH_SECONDS)

    async def ask(self) -> None:
        """Ask for the state once, and update ``text``."""
        try:
            text = SEPARATOR.join(await self._fields())
        except QmonError as error:
            text = f"the machine's state is not known: {reason(error)}"
        if text != self.text:
            self.text = text
            self._changed()

    async def _fields(self) -> list[str]:
        name = await ask(self._target, "query-name", {})
        status = await ask(self._target, "query-status", {})
        fields = [name.get("name", "qmon"), status.get("status", "unknown")]
        migration = await ask(self._target, "query-migrate", {})
        if is_under_way(migration):
            fields.append(_migration(migration))
        if clients := await count_clients(self._target):
            fields.append(f"{clients} client{'s' * (clients != 1)}")
        return fields


def _migration(info: Mapping[str, Any]) -> str:
    text = f"migration {info['status']}"
    disk = info.get("disk", {})
    if total := disk.get("total", 0):
        text += f" {(total - disk['remaining']) * 100 // total}%"
    return ", ".join(filter(None, (text, pace(info))))

"""The row below the prompt: an error in the typed line, or the machine's state."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from prompt_toolkit.enums import EditingMode
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding.vi_state import InputMode

from qmon.console.display import Display
from qmon.console.prompt import Prompt
from qmon.errors import ConnectionLostError, QmonError, reason
from qmon.hmp.clients import count_clients
from qmon.hmp.editing.judge import complaint
from qmon.hmp.jobs import is_hidden
from qmon.hmp.migration_state import is_in_doubt, is_under_way
from qmon.hmp.migration_words import amount, short_pace
from qmon.notation.plain_text import one_line
from qmon.qmp.target import Target, ask, well_formed

REFRESH_SECONDS = 0.5
_SEPARATOR = " | "

_VI_MODES = {
    InputMode.INSERT: "insert",
    InputMode.INSERT_MULTIPLE: "insert",
    InputMode.NAVIGATION: "command",
    InputMode.REPLACE: "replace",
    InputMode.REPLACE_SINGLE: "replace",
}
"""The toolbar's names of vi's modes."""


class Toolbar:
    """Keeps the machine's state as text, which it asks for regularly, and has the display show the row."""

    def __init__(
        self,
        target: Target,
        prompt: Prompt,
        display: Display,
        connected_to: str = "",
        unwatched: str = "",
        saw_migration: Callable[[str], None] = lambda status: None,
    ) -> None:
        """``connected_to`` is the address of a machine that is not this program's; "" for its own.

        With ``unwatched`` the state is not asked for; this text is shown instead. ``saw_migration`` is called
        with the status of the migration each time it is asked for.
        """
        self._target = target
        self._connected_to = connected_to
        self._prompt = prompt
        self._display = display
        self._text = unwatched
        self._is_watching = not unwatched
        self._saw_migration = saw_migration
        display.status.toolbar = self._row

    def _row(self) -> StyleAndTextTuples:
        wrong = complaint(self._prompt.reading)
        fields = [f"! {wrong}" if wrong else f" {self._text}"]
        application = self._display.application
        if application.editing_mode is EditingMode.VI:
            fields.append(f"vi: {_VI_MODES.get(application.vi_state.input_mode, 'insert')}")
        return [("class:toolbar.complaint" if wrong else "", _SEPARATOR.join(fields))]

    async def watch(self) -> None:
        """Ask every ``REFRESH_SECONDS`` until cancelled."""
        while self._is_watching:
            await self.ask()
            await asyncio.sleep(REFRESH_SECONDS)

    async def ask(self) -> None:
        """Ask for the state once, and update ``text``."""
        try:
            with well_formed():
                text = one_line(_SEPARATOR.join(await self._fields()))
        except ConnectionLostError as error:
            text = reason(error)
        except QmonError as error:
            text = f"the machine's state is not known: {reason(error)}"
        if text != self._text:
            self._text = text
            self._display.screen.refresh()

    async def _fields(self) -> list[str]:
        name = await ask(self._target, "query-name", {})
        status = await ask(self._target, "query-status", {})
        fields = [name.get("name", self._connected_to or "qmon"), *filter(None, [status.get("status")])]
        if self._connected_to not in ("", fields[0]):
            fields.append(self._connected_to)
        migration = await ask(self._target, "query-migrate", {})
        self._saw_migration(str(migration.get("status", "none")))
        if is_under_way(migration):
            fields.append(_migration(migration))
        if self._connected_to:
            jobs = await ask(self._target, "query-block-jobs", [])
            fields += [_job(job) for job in jobs if not is_hidden(job["device"])]
        if clients := await count_clients(self._target):
            fields.append(f"{clients} client{'s' * (clients != 1)}")
        if clients := migration.get("x-qmon-forwarded-here", {}).get("clients"):
            fields.append(f"{clients} client{'s' * (clients != 1)} by way of the source")
        return fields


def _job(job: Mapping[str, Any]) -> str:
    done = job["offset"] * 100 // job["len"] if job["len"] else 100
    return one_line(f"{job['type']} {job['device']} {'ready' if job.get('ready') else f'{done}%'}")


def _migration(info: Mapping[str, Any]) -> str:
    if is_in_doubt(info):
        return "migration in doubt: 'info migrate' says why"
    text = f"migration {info['status']}"
    if (moved := amount(info)) is not None:
        text += f" {moved[0] * 100 // moved[1]}%"
    return ", ".join(filter(None, (text, short_pace(info))))

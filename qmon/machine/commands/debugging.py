"""The commands of the log and of trace events."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from qmon.errors import CommandError
from qmon.host.logs import (
    ALL,
    LOG_ITEMS,
    NONE,
    TRACE_PREFIX,
    Log,
    LogError,
)
from qmon.host.trace import TraceEvent, find_events, is_pattern
from qmon.machine.machine import Machine
from qmon.machine.output_file import open_output_file
from qmon.qmp.registry import command


class DebugCommands:
    """Commands of QAPI's trace.json, and qmon's own for what QMP does not have."""

    def __init__(self, machine: Machine, log: Log) -> None:
        self._machine = machine
        self._log = log

    @command("trace-event-get-state")
    async def get_state(self, name: str, vcpu: int | None = None) -> list[dict[str, Any]]:
        return [
            {"name": event.name, "state": "enabled" if event.enabled else "disabled", "vcpu": False}
            for event in _events(name, vcpu)
        ]

    @command("trace-event-set-state")
    async def set_state(
        self, name: str, enable: bool, ignore_unavailable: bool | None = None, vcpu: int | None = None
    ) -> dict[str, Any]:
        for event in _events(name, vcpu):
            event.enabled = enable
        return {}

    @command("x-qmon-log")
    async def log(self, items: list[str]) -> dict[str, Any]:
        """Log the given items in detail, and no others; ``trace:PATTERN`` also switches trace events on.

        Returns in ``unknown-events`` the names of events that do not exist.
        """
        unknown = []
        for item in items:
            if item.startswith(TRACE_PREFIX):
                unknown += _switch(item.removeprefix(TRACE_PREFIX))
            elif item not in (*LOG_ITEMS, ALL, NONE):
                raise CommandError(f"Parameter 'items' does not accept value '{item}'")
        chosen = LOG_ITEMS if ALL in items else items
        await self._machine.blocking(_told, lambda: self._log.choose(chosen, self._open_log))
        return {"unknown-events": unknown}

    @command("x-qmon-logfile")
    async def logfile(self, filename: str) -> dict[str, Any]:
        """Write the log to a file from now on, appending; ``%d`` in its name stands for the process id."""
        await self._machine.blocking(_told, lambda: self._log.move(filename, self._open_log))
        return {}

    def _open_log(self, path: str) -> int:
        return open_output_file(path, self._machine.disks.image_files(), os.O_APPEND)


def _told(function: Callable[[], None]) -> None:
    try:
        function()
    except LogError as error:
        raise CommandError(str(error)) from error


def _events(name: str, vcpu: int | None) -> list[TraceEvent]:
    if vcpu is not None:
        raise CommandError(f"invalid vCPU index {vcpu}")
    events = find_events(name)
    if not events and not is_pattern(name):
        raise CommandError(f'unknown event "{name}"')
    return events


def _switch(pattern: str) -> list[str]:
    """Switch events on, or off after a ``-``. Return the name in a list if no event has it, else []."""
    name = pattern.removeprefix("-")
    events = find_events(name)
    for event in events:
        event.enabled = name == pattern
    return [] if events or is_pattern(name) else [name]

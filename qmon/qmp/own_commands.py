"""The commands that only a server has: the human monitor's lines, and what the program can do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from qmon.errors import CommandError
from qmon.notation.option_groups import option_groups
from qmon.qmp.registry import Registry, command
from qmon.qmp.target import Arguments, Listener, Target

RunLine = Callable[[str], Awaitable[str]]
"""Runs a line of the human monitor; returns all that it prints, its lines ended by CR LF."""


class ServedTarget:
    """A target, and what the server adds to it. The target's own monitor never sees the added commands."""

    def __init__(self, target: Target, run_line: RunLine | None) -> None:
        self._target = target
        self._own = Registry()
        self._own.add("query-commands", self._query_commands)
        self._own.add("query-command-line-options", _query_command_line_options)
        if run_line is not None:
            self._own.add_from(_HumanMonitor(run_line))

    def commands(self) -> frozenset[str]:
        return self._target.commands() | self._own.commands()

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        target = self._own if command in self._own.commands() else self._target
        return await target.execute(command, arguments)

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._target.subscribe(listener)

    async def _query_commands(self) -> list[dict[str, str]]:
        return [{"name": name} for name in sorted(self.commands() | {"qmp_capabilities"})]


async def _query_command_line_options(option: str | None = None) -> list[dict[str, Any]]:
    found = [each for each in option_groups() if option in (None, each["option"])]
    if not found:
        raise CommandError(f"invalid option name: {option}")
    return found


class _HumanMonitor:
    def __init__(self, run_line: RunLine) -> None:
        self._run_line = run_line

    @command("human-monitor-command")
    async def human_monitor_command(self, command_line: str, cpu_index: int | None = None) -> str:
        if cpu_index:  # qmp-shell always names CPU 0, which every QEMU with a guest has
            raise CommandError("Parameter 'cpu-index' expects a CPU number")
        return await self._run_line(command_line)

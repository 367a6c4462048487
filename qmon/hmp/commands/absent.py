"""Commands about a CPU, memory, devices, networks or a screen. The target's own monitor runs them.

A target without its own monitor has none of these: the table of rows has the answer.
"""

from __future__ import annotations

from qmon.hmp.handlers import Call, Handler, handler
from qmon.hmp.tables.table import Command
from qmon.qmp.absent import ABSENT, Row
from qmon.qmp.target import Target

_FUNCTIONS = frozenset(name for row in ABSENT for name in row.hmp.split())
_QMP_COMMANDS = frozenset(row.qmp for row in ABSENT if row.qmp)


def has_own_monitor(target: Target) -> bool:
    """Whether the target is a QEMU, which can run a monitor's lines itself."""
    return "human-monitor-command" in target.commands()


def works(command: Command, target: Target) -> bool:
    """Whether a command does more on the target than to answer that the target lacks what it is for."""
    if not command.available:
        return False
    if has_own_monitor(target):
        return True
    if "needs" in command.entry.others:
        return False
    return command.entry.handler not in _FUNCTIONS and command.qmp_command not in _QMP_COMMANDS


def _answering(row: Row) -> Handler:
    async def answer(call: Call) -> None:
        await call.pass_on(row.text.format_map(call.values), fails=bool(row.fails))

    return answer


def _add_handlers() -> None:
    for row in ABSENT:
        for name in row.hmp.split():
            handler(name)(_answering(row))


_add_handlers()

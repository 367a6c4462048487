"""The commands, one module per family: each function makes QMP calls and prints their results as text.

They may import what is below the monitor, and know the monitor as a LineRunner (``qmon.hmp.handlers``).
"""

from __future__ import annotations

import pkgutil
from functools import cache
from importlib import import_module

from qmon.hmp.handlers import HANDLERS, ON_QEMU, Function, Handler
from qmon.hmp.tables.table import Command
from qmon.qmp.absent import ABSENT
from qmon.qmp.target import Kind, Target, kind_of

_VOID_QUERIES = frozenset(row.qmp for row in ABSENT if row.qmp)


@cache
def load() -> None:
    """Import all families, which registers their functions. For any thread."""
    for module in pkgutil.iter_modules(__path__):
        import_module(f"{__name__}.{module.name}")


def find_function(c_name: str, target: Target) -> Function | None:
    """Return the function for a table's ``.cmd`` on a target, None if there is none.

    On a qmon it is the first whose commands it has, else the first, which says what is missing. A QEMU
    without those of the first runs the line itself.
    """
    load()
    functions = HANDLERS.get(c_name, [])
    commands = target.commands()
    match kind_of(target):
        case Kind.QMON:
            candidates = [each for each in functions if each.needs <= commands] or functions[:1]
        case Kind.QEMU:
            candidates = [each for each in functions[:1] if each.needs <= commands and not each.is_void]
        case Kind.STORAGE_DAEMON:
            candidates = [each for each in functions if each.needs <= commands and not each.is_void]
    return candidates[0] if candidates else None


def works(command: Command, target: Target) -> bool:
    """Whether a command does more on the target than to say that the target lacks what it is for."""
    if not command.available:
        return False
    kind = kind_of(target)
    if kind is Kind.QEMU:
        return True
    if "needs" in command.entry.others:
        return False
    if command.entry.handler is None:
        query = command.qmp_command or ""
        return query not in _VOID_QUERIES if kind is Kind.QMON else query in target.commands()
    function = find_function(command.entry.handler, target)
    return function is not None and not function.is_void


def find_on_qemu(c_name: str) -> Handler | None:
    """Return the function for a table's ``.cmd`` where lines are passed on, None if there is none."""
    load()
    return ON_QEMU.get(c_name)

"""The QMP commands about what the machine does not have, from the one table of rows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from qmon.errors import CommandError
from qmon.qmp.absent import ABSENT, Row
from qmon.qmp.registry import CommandFunction, Registry


def register_absent(registry: Registry) -> None:
    """Register every row whose QMP command is offered."""
    for row in ABSENT:
        if row.is_offered:
            registry.add(row.qmp, _answering(row))


def _answering(row: Row) -> CommandFunction:
    async def answer(**arguments: Any) -> Any:
        if row.fails:
            raise CommandError(row.fails.format_map(arguments), row.error_class)
        return deepcopy(row.answer)  # the caller may change what it gets

    return answer

"""The QMP commands about what the machine does not have, from the one table of rows."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

from qmon.errors import CommandError
from qmon.qmp.absent import ABSENT, Row
from qmon.qmp.registry import CommandFunction, Registry
from qmon.qmp.schema import Signature


def register_absent(registry: Registry) -> None:
    """Register every row whose QMP command is offered. Only the arguments in its error are checked."""
    for row in ABSENT:
        if row.is_offered:
            names = dict.fromkeys(row.placeholders, str)
            registry.add_described(row.qmp, _answering(row), Signature.of(names, is_open=True))


def _answering(row: Row) -> CommandFunction:
    async def answer(**arguments: Any) -> Any:
        if row.fails:
            raise CommandError(row.fails.format_map(arguments), row.error_class)
        return deepcopy(row.answer)  # the caller may change what it gets

    return answer

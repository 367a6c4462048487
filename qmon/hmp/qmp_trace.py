"""A target that reports each QMP command and each answer, and passes them on to another target."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.line.secrets import MASK, request_without_secrets
from qmon.hmp.tables.table import Tables
from qmon.qmp.target import Arguments, Listener, Target


class TracedTarget:
    """Calls ``tell`` with a line for each command (``-> {}``) and answer (``<- {}``), without secrets."""

    def __init__(self, target: Target, tables: Tables, tell: Callable[[str], None]) -> None:
        self._target = target
        self._tables = tables
        self._tell = tell

    def commands(self) -> frozenset[str]:
        return self._target.commands()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        return self._target.subscribe(listener)

    async def execute(self, command: str, arguments: Arguments | None = None) -> Any:
        request = request_without_secrets(self._tables, command, arguments or {})
        self._tell(f"-> {request.line}")
        try:
            result = await self._target.execute(command, arguments)
        except CommandError as error:
            told = {"class": error.error_class, "desc": request.clean(str(error))}
            self._tell(f"<- {json.dumps({'error': told})}")
            raise
        shown = {} if result is None else result
        self._tell(f"<- {json.dumps({'return': shown if request.answer else MASK})}")
        return result

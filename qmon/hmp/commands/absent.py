"""Commands about a CPU, memory, devices, networks or a screen. The target's own monitor runs them.

A target without its own monitor has none of these: the table of rows has the answer.
"""

from __future__ import annotations

from qmon.hmp.handlers import Call, Handler, handler
from qmon.qmp.absent import ABSENT, Row


def _answering(row: Row) -> Handler:
    async def answer(call: Call) -> None:
        await call.pass_on(row.text.format_map(call.values), fails=bool(row.fails))

    return answer


def _add_handlers() -> None:
    for row in ABSENT:
        for name in row.hmp.split():
            handler(name)(_answering(row))


_add_handlers()

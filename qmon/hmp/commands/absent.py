"""Commands about a CPU, memory, devices, networks or a screen, which the embedded machine does not have.

The table of rows says what it answers.
"""

from __future__ import annotations

from qmon.hmp.handlers import Call, Handler, handler
from qmon.hmp.person import LineError
from qmon.qmp.absent import ABSENT, Row


def _answering(row: Row) -> Handler:
    async def answer(call: Call) -> None:
        text = row.text.format_map(call.values)
        if row.fails:
            raise LineError(text)
        if text:
            call.print(text)

    return answer


def _add_handlers() -> None:
    for row in ABSENT:
        for name in row.hmp.split():
            handler(name, is_void=True)(_answering(row))


_add_handlers()

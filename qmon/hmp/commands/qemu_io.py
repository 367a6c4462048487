"""``qemu-io``: requests to a drive from the monitor."""

from __future__ import annotations

import logging
from typing import Any

from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError

_logger = logging.getLogger(__name__)

COMMAND = "x-qmon-qemu-io"


@handler("hmp_qemu_io", COMMAND)
async def qemu_io(call: Call) -> None:
    """Print the output of a qemu-io command.

    QEMU writes output and errors to its standard output and error. Here the output goes to the person, and
    errors to the person at a terminal, or else to the log.
    """
    arguments: dict[str, Any] = {"device": call.text("device"), "command": call.text("command")}
    if call.flag("qdev"):
        arguments["qdev"] = True
    answer = await call.execute_raw(COMMAND, arguments)
    if answer["output"]:
        call.print(answer["output"])
    if answer["complaint"]:
        if call.person.interactive:
            call.print(answer["complaint"])
        else:
            for line in answer["complaint"].split("\n"):
                _logger.warning("qemu-io: %s", line)
    if answer["failed"]:
        raise LineError("")

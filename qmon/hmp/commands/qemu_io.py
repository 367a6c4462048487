"""``qemu-io``: requests to a drive from the monitor."""

from __future__ import annotations

import logging
from typing import Any

from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError

_logger = logging.getLogger(__name__)

COMMAND = "x-qmon-qemu-io"


@handler("hmp_qemu_io")
async def qemu_io(call: Call) -> None:
    """QEMU prints what comes of it on its standard output, and complaints on its standard error.

    Here the output goes to whoever asked, and complaints to a person's terminal, or else to the log.
    """
    if not call.has(COMMAND):
        await call.pass_on("qemu-io: this target has no monitor of its own that could run it")
        return
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

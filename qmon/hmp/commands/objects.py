"""Objects: creating and deleting them."""

from __future__ import annotations

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import Call, handler
from qmon.notation.object_options import HelpWanted, help_lines, parse_object


@handler("hmp_object_add")
async def object_add(call: Call) -> None:
    if call.has("human-monitor-command"):
        await call.pass_on("")  # the target knows its own types
        return
    try:
        wanted = parse_object(call.text("object"))
    except UsageError as error:
        raise CommandError(str(error)) from error
    if isinstance(wanted, HelpWanted):
        for line in help_lines(wanted.type_name):
            call.print(line)
    else:
        await call.execute("object-add", wanted)


@handler("hmp_object_del")
async def object_del(call: Call) -> None:
    await call.execute("object-del", {"id": call.text("id")})

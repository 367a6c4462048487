"""Objects: creating and deleting them."""

from __future__ import annotations

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import Call, handler
from qmon.notation.object_options import HelpWanted, help_lines, parse_object


@handler("hmp_object_add", "x-qmon-query-objects")
async def object_add(call: Call) -> None:
    try:
        wanted = parse_object(call.text("object"))
    except UsageError as error:
        raise CommandError(str(error)) from error
    if isinstance(wanted, HelpWanted):
        for line in help_lines(wanted.type_name):
            call.print(line)
    else:
        await call.execute("object-add", wanted)


@handler("hmp_object_del", "object-del")
async def object_del(call: Call) -> None:
    await call.execute("object-del", {"id": call.text("id")})

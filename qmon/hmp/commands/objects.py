"""Objects: making and deleting them."""

from __future__ import annotations

import json
from collections.abc import Mapping

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import MASK, Call, handler
from qmon.hmp.line.secrets import arguments_without_secrets, options_without_secrets
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables
from qmon.notation.json_text import parse_json
from qmon.notation.object_options import HelpWanted, help_lines, parse_object


def _conceal_options(tables: Tables, values: Values) -> Mapping[str, str]:
    text = str(values["object"])
    shown = options_without_secrets(text)
    if text.startswith("{"):
        try:
            shown = json.dumps(arguments_without_secrets(tables, "object-add", parse_json(text)))
        except UsageError:  # what in it is a secret can't be told
            shown = MASK
    return {"object": shown} if MASK in shown else {}


@handler("hmp_object_add", conceal=_conceal_options)
async def object_add(call: Call) -> None:
    if call.has("human-monitor-command"):
        await call.pass_on("")  # it knows its own types
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

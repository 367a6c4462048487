"""Objects of a target that knows its own types: adding them, and the tree that they are in."""

from __future__ import annotations

import json
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import Call, handler
from qmon.notation.introspection import Introspection
from qmon.notation.json_text import parse_json
from qmon.notation.keyval import parse_size_option, parse_switch
from qmon.notation.keyval_tree import parse_tree
from qmon.notation.object_options import check_identifier

_SCHEMA = "query-qmp-schema"


@handler("hmp_object_add", "object-add", _SCHEMA, is_substitute=True)
async def object_add(call: Call) -> None:
    text = call.text("object")
    schema = Introspection(await call.execute_raw(_SCHEMA))
    try:
        if text.startswith("{"):
            arguments = parse_json(text)
        else:
            options, asks_help = parse_tree(text, "qom-type")
            if asks_help:
                for line in _help(schema, options.get("qom-type")):
                    call.print(line)
                return
            arguments = schema.read("object-add", options)
            check_identifier(arguments["id"])
    except UsageError as error:
        raise CommandError(str(error)) from error
    await call.execute("object-add", arguments)


def _help(schema: Introspection, type_name: Any) -> list[str]:
    types = schema.cases("object-add")
    if type_name not in types:
        return ["List of user creatable objects:", *(f"  {name}" for name in sorted(types))]
    members = schema.members(types[type_name])
    return [f"{type_name} options:", *sorted(f"  {name}=<{kind}>" for name, kind in members.items())]


@handler("hmp_qom_list", "qom-list", is_substitute=True)
async def qom_list(call: Call) -> None:
    if "path" not in call.values:
        call.print("/")
        return
    for each in await call.execute("qom-list", {"path": call.text("path")}):
        call.print(f"{each['name']} ({each['type']})")


@handler("hmp_qom_get", "qom-get", is_substitute=True)
async def qom_get(call: Call) -> None:
    value = await call.execute("qom-get", _property(call))
    call.print(json.dumps(value, indent=4))


@handler("hmp_qom_set", "qom-set", "qom-list", is_substitute=True)
async def qom_set(call: Call) -> None:
    text = call.text("value")
    try:
        value = parse_json(text) if call.flag("json") else await _typed(call, text)
    except UsageError as error:
        raise CommandError(str(error)) from error
    await call.execute("qom-set", {**_property(call), "value": value})


def _property(call: Call) -> dict[str, str]:
    return {"path": call.text("path"), "property": call.text("property")}


async def _typed(call: Call, text: str) -> Any:
    """Return a property's value as JSON has it, by the type that the target gives the property."""
    name = call.text("property")
    properties = await call.execute("qom-list", {"path": call.text("path")})
    kind = next((str(each["type"]) for each in properties if each["name"] == name), "string")
    if kind == "bool":
        return parse_switch(name, text)
    if kind == "size" or kind.removeprefix("u").startswith("int"):
        return -parse_size_option(name, text[1:]) if text.startswith("-") else parse_size_option(name, text)
    return text

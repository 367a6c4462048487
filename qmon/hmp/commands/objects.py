"""Objects: making, deleting, and looking at them and at the tree they are in."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.handlers import ANSWER, MASK, Call, handler
from qmon.hmp.line.secrets import SECRET_PROPERTIES, arguments_without_secrets, options_without_secrets
from qmon.hmp.person import LineError
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables
from qmon.notation.json_text import parse_json, pretty_json
from qmon.notation.keyval import parse_switch
from qmon.notation.object_options import HelpWanted, help_lines, parse_object
from qmon.notation.visit import (
    INT64_MAX,
    UINT64_MAX,
    parse_integer,
    parse_ranges,
)

_WRONG_TYPE = re.compile(
    r"(?:Invalid parameter type for '.*', expected:|Parameter '.*' expects)"
    r" (boolean|integer|uint64|array|object)"
)


def _conceal_options(tables: Tables, values: Values) -> Mapping[str, str]:
    text = str(values["object"])
    shown = options_without_secrets(text)
    if text.startswith("{"):
        try:
            shown = json.dumps(arguments_without_secrets(tables, "object-add", parse_json(text)))
        except UsageError:  # what in it is a secret can't be told
            shown = MASK
    return {"object": shown} if MASK in shown else {}


def _conceal_value(tables: Tables, values: Values) -> Mapping[str, str]:
    if values["property"] not in SECRET_PROPERTIES:
        return {}
    return {"value": MASK} if "value" in values else {ANSWER: MASK}


@handler("hmp_object_add", conceal=_conceal_options)
async def object_add(call: Call) -> None:
    try:
        wanted = parse_object(call.text("object"))
    except UsageError as error:
        if not call.has("human-monitor-command"):
            raise CommandError(str(error)) from error
        wanted = HelpWanted(None)
    if not isinstance(wanted, HelpWanted):
        await call.execute("object-add", wanted)
    elif call.has("human-monitor-command"):
        await call.pass_on("")  # it knows its own types, those of other versions too
    else:
        for line in help_lines(wanted.type_name):
            call.print(line)


@handler("hmp_object_del")
async def object_del(call: Call) -> None:
    await call.execute("object-del", {"id": call.text("id")})


@handler("hmp_qom_list")
async def qom_list(call: Call) -> None:
    if "path" not in call.values:
        call.print("/")
        return
    for row in await call.execute("qom-list", {"path": call.text("path")}):
        call.print(f"{row['name']} ({row['type']})")


@handler("hmp_qom_get", conceal=_conceal_value)
async def qom_get(call: Call) -> None:
    value = await call.execute("qom-get", {"path": call.text("path"), "property": call.text("property")})
    call.print(pretty_json(value))


@handler("hmp_qom_set", conceal=_conceal_value)
async def qom_set(call: Call) -> None:
    text, name = call.text("value"), call.text("property")
    where = {"path": call.text("path"), "property": name}
    if call.flag("json"):
        try:
            value = parse_json(text)
        except UsageError as error:
            raise CommandError(str(error)) from error
        await call.execute("qom-set", {**where, "value": value})
        return
    try:
        await call.execute("qom-set", {**where, "value": text})
    except CommandError as error:
        # Nothing was set. The target says which type it wants, and whether it takes a value at all.
        wanted = _WRONG_TYPE.fullmatch(str(error))
        if wanted is None:
            raise
        await call.execute("qom-set", {**where, "value": _convert(name, text, wanted[1])})


def _convert(name: str, text: str, wanted: str) -> Any:
    """A text as the type that an error has named. Raises CommandError with QEMU's words."""
    match wanted:
        case "boolean":
            try:
                return parse_switch(name, text)
            except UsageError as error:
                raise CommandError(str(error)) from error
        case "integer":
            return _number(text, -INT64_MAX - 1, INT64_MAX, f"Parameter '{name}' expects int64")
        case "uint64":
            value = _number(text, -UINT64_MAX, UINT64_MAX, f"Parameter '{name}' expects uint64")
            return value & UINT64_MAX
        case "array":
            try:
                return parse_ranges(text)
            except ValueError as error:
                desc = "Parameter 'null' expects list of uint64 values or ranges"
                raise CommandError(desc) from error
    raise CommandError(f"Parameter '{name}' can't be set to a plain text: use qom-set -j with JSON")


def _number(text: str, least: int, most: int, otherwise: str) -> int:
    try:
        value = parse_integer(text)
    except ValueError as error:
        raise CommandError(otherwise) from error
    if not least <= value <= most:
        raise CommandError(otherwise)
    return value


@handler("hmp_info_qom_tree")
async def info_qom_tree(call: Call) -> None:
    path = call.text("path", "/machine")
    try:
        type_name = await call.execute("qom-get", {"path": path, "property": "type"})
    except CommandError as error:
        raise LineError(f"Path '{path}' could not be resolved.") from error
    name = path.rstrip("/").rpartition("/")[2]
    await _print_tree(call, path, name, str(type_name), 0)


async def _print_tree(call: Call, path: str, name: str, type_name: str, depth: int) -> None:
    """Print a node, and below it its children by name. A child that went away meanwhile raises."""
    call.print(f"{'  ' * depth}/{name} ({type_name})")
    rows = await call.execute("qom-list", {"path": path})
    for row in sorted(rows, key=lambda row: str(row["name"]).encode()):
        if row["type"].startswith("child<"):
            child_type = row["type"].removeprefix("child<").removesuffix(">")
            await _print_tree(call, f"{path.rstrip('/')}/{row['name']}", row["name"], child_type, depth + 1)


@handler("hmp_info_iothreads")
async def info_iothreads(call: Call) -> None:
    for thread in await call.execute("query-iothreads"):
        call.print(f"{thread['id']}:")
        call.print(f"  thread_id={thread['thread-id']}")
        for name in ("poll-max-ns", "poll-grow", "poll-shrink", "aio-max-batch"):
            call.print(f"  {name}={thread[name]}")


@handler("hmp_info_memdev")
async def info_memdev(call: Call) -> None:
    for backend in await call.execute("query-memdev"):
        call.print(f"memory backend: {backend['id']}")
        call.print(f"  size:  {backend['size']}")
        for name in ("merge", "dump", "prealloc", "share", "reserve"):
            if name in backend:
                call.print(f"  {name}: {str(backend[name]).lower()}")
        call.print(f"  policy: {backend['policy']}")
        call.print(f"  host nodes: {_ranges(backend['host-nodes'])}")
    call.print("")


def _ranges(numbers: list[int]) -> str:
    """Ascending numbers, with what is next to each other as a range: ``1-4,7``."""
    runs: list[list[int]] = []
    for number in sorted(numbers):
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(f"{run[0]}-{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


@handler("hmp_info_cryptodev")
async def info_cryptodev(call: Call) -> None:
    if not call.has("query-cryptodev"):  # before QEMU 8.0: nothing here can be one
        if call.has("human-monitor-command"):
            await call.pass_on("")
        return
    for device in await call.execute("query-cryptodev"):
        services = "|".join(device["service"])
        call.print(f"{device['id']}: service=[{services}]")
        for client in device["client"]:
            call.print(f"    queue {client['queue']}: type={client['type']}")

"""``yank``: breaks a connection for which a QEMU waits. It goes past the line that is stuck."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.notation.plain_text import in_one_line
from qmon.qmp.target import Arguments, TakesOutOfBand

QUERY, YANK = "query-yank", "yank"

_KEYS = {"migration": "", "block-node": "node-name", "chardev": "id"}
"""The member that names an instance, by its type (QAPI: YankInstance)."""


@handler("hmp_yank", QUERY, YANK)
async def yank(call: Call) -> None:
    if "type" not in call.values:
        for each in await instances(call):
            call.print(each)
        return
    kind, name = call.text("type"), call.text("id")
    if kind not in _KEYS or bool(_KEYS[kind]) != bool(name):
        raise LineError("yank: expected 'migration', 'block-node NAME' or 'chardev ID'; 'yank' lists them")
    instance = {"type": kind, **({_KEYS[kind]: name} if name else {})}
    await _at_once(call, YANK, {"instances": [instance]})


async def instances(call: Call) -> list[str]:
    """Return the connections that can be broken, as they are written behind ``yank``."""
    return [written(each) for each in in_one_line(await _at_once(call, QUERY, None))]


def written(instance: Mapping[str, Any]) -> str:
    """Return an instance as it is written behind ``yank``."""
    kind, name = str(instance["type"]), name_of(instance)
    return f"{kind} {name}" if name else kind


def name_of(instance: Mapping[str, Any]) -> str:
    """Return an instance's name as it is written, "" if it has none. A ``#`` would begin a comment."""
    name = str(instance.get(_KEYS.get(str(instance["type"]), ""), ""))
    return f'"{name}"' if name.startswith("#") else name


async def _at_once(call: Call, command: str, arguments: Arguments | None) -> Any:
    target = call.monitor.target
    if not (isinstance(target, TakesOutOfBand) and target.takes_out_of_band):
        return await call.execute(command, arguments)
    try:
        return await target.execute_out_of_band(command, arguments)
    except CommandError as error:
        raise CommandError(str(in_one_line(str(error))), error.error_class) from error

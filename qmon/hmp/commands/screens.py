"""Screens, keyboards, mice, remote displays and sound."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands.choices import execute_choice, refused_value
from qmon.hmp.handlers import MASK, Call, handler
from qmon.hmp.person import LineError
from qmon.hmp.tables.signature import Values
from qmon.hmp.tables.table import Tables

CONNECTED = ("fail", "disconnect", "keep")
"""What can become of viewers that are connected; the monitor looks at it before it does at the protocol."""

_KEY_NUMBER = re.compile(r"0x[0-9a-fA-F]+")
_ULONG_MAX = (1 << 64) - 1


@handler("hmp_screendump")
async def screendump(call: Call) -> None:
    await execute_choice(call, "screendump", _given(call, "filename", "format", "device", "head"))


@handler("hmp_sendkey")
async def sendkey(call: Call) -> None:
    arguments = {
        "keys": [_key(name) for name in call.text("keys").split("-")],
        **_given(call, "hold-time"),
    }
    try:
        await call.execute("send-key", arguments)
    except CommandError as error:
        value = refused_value(error)
        if value is None:
            raise
        raise LineError(f"invalid parameter: {value}") from error


def _key(name: str) -> dict[str, Any]:
    """A KeyValue of QAPI: a key by its name, or by the number of its scan code."""
    if _KEY_NUMBER.fullmatch(name):
        return {"type": "number", "data": _signed(min(int(name, 16), _ULONG_MAX))}
    return {"type": "qcode", "data": "less" if name == "<" else name}


@handler("hmp_mouse_move")
async def mouse_move(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_mouse_button")
async def mouse_button(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_mouse_set")
async def mouse_set(call: Call) -> None:
    await call.pass_on(f"Mouse at index '{_signed(int(call.values['index']))}' not found")


def _signed(value: int) -> int:
    """What C makes of a value in an ``int``."""
    value &= 0xFFFFFFFF
    return value - (1 << 32) if value >> 31 else value


@handler("hmp_info_mice")
async def info_mice(call: Call) -> None:
    mice = await call.execute("query-mice")
    for mouse in mice:
        mark = "*" if mouse["current"] else " "
        absolute = " (absolute)" if mouse["absolute"] else ""
        call.print(f"{mark} Mouse #{mouse['index']}: {mouse['name']}{absolute}")
    if not mice:
        call.print("No mouse devices connected")


def _conceal_password(tables: Tables, values: Values) -> Mapping[str, str]:
    """Whatever could be one, where the arguments are in a wrong order."""
    known = {"protocol": ("vnc", "spice"), "connected": CONNECTED}
    return {key: MASK for key in values if values[key] not in known.get(key, ())}


@handler("hmp_set_password", conceal=_conceal_password)
async def set_password(call: Call) -> None:
    arguments = _given(call, "protocol", "password", "connected")
    if arguments.get("connected", "keep") not in CONNECTED:
        raise CommandError(f"invalid parameter value: {arguments['connected']}")
    await execute_choice(call, "set_password", arguments | _display(call))


@handler("hmp_expire_password")
async def expire_password(call: Call) -> None:
    await execute_choice(call, "expire_password", _given(call, "protocol", "time") | _display(call))


def _display(call: Call) -> dict[str, Any]:
    """The display, of which only VNC has more than one."""
    return _given(call, "display") if call.text("protocol") == "vnc" else {}


@handler("hmp_client_migrate_info")
async def client_migrate_info(call: Call) -> None:
    names = ("protocol", "hostname", "port", "tls-port", "cert-subject")
    await call.execute("client_migrate_info", _given(call, *names))


def _given(call: Call, *names: str) -> dict[str, Any]:
    """Those of the line's arguments that were given."""
    return {name: call.values[name] for name in names if name in call.values}


@handler("hmp_info_vnc")
async def info_vnc(call: Call) -> None:
    if await call.execute("query-vnc-servers"):
        await call.pass_on("VNC servers are there, but this target has no monitor that could list them")
    else:
        call.print("None")


@handler("hmp_info_spice")
async def info_spice(call: Call) -> None:
    if (await call.execute("query-spice"))["enabled"]:
        await call.pass_on("SPICE is there, but this target has no monitor that could show it")
    else:
        call.print("Server: disabled")


@handler("hmp_wavcapture")
async def wavcapture(call: Call) -> None:
    await call.pass_on(f"Audiodev '{call.text('audiodev')}' not found")


@handler("hmp_stopcapture")
async def stopcapture(call: Call) -> None:
    await call.pass_on("", fails=False)


@handler("hmp_info_capture")
async def info_capture(call: Call) -> None:
    await call.pass_on("", fails=False)

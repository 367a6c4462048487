"""The NBD server: starting it, exporting drives, stopping it."""

from __future__ import annotations

from typing import Any

from qmon.address import parse_address
from qmon.errors import CommandError
from qmon.hmp.handlers import Call, handler


@handler("hmp_nbd_server_start")
async def nbd_server_start(call: Call) -> None:
    writable = call.flag("writable")
    every_drive = call.flag("all")
    if writable and not every_drive:
        raise CommandError("-w only valid together with -a")
    address = parse_address(call.text("uri")).to_qapi()
    kind = address.pop("type")
    await call.execute("nbd-server-start", {"addr": {"type": kind, "data": address}})
    if not every_drive:
        return
    try:
        for block in await call.execute("query-block"):
            if "inserted" in block:
                await call.execute("nbd-server-add", {"device": block["device"], "writable": writable})
    except CommandError:
        await call.execute("nbd-server-stop")
        raise


@handler("hmp_nbd_server_add")
async def nbd_server_add(call: Call) -> None:
    arguments: dict[str, Any] = {"device": call.text("device"), "writable": call.flag("writable")}
    if "name" in call.values:
        arguments["name"] = call.text("name")
    await call.execute("nbd-server-add", arguments)


@handler("hmp_nbd_server_remove")
async def nbd_server_remove(call: Call) -> None:
    mode = "hard" if call.flag("force") else "safe"
    await call.execute("nbd-server-remove", {"name": call.text("name"), "mode": mode})


@handler("hmp_nbd_server_stop")
async def nbd_server_stop(call: Call) -> None:
    await call.execute("nbd-server-stop")

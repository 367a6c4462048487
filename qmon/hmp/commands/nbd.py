"""The NBD server: starting it, exporting drives, stopping it."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.clients import count_clients, query_exports, users
from qmon.hmp.commands.caution import confirm
from qmon.hmp.disks import query_disks
from qmon.hmp.handlers import Call, handler
from qmon.notation.address import listening_hint, parse_address

_IN_USE = "still in use"
"""The end of a refusal, QEMU's and ours."""


@handler("hmp_nbd_server_start", "nbd-server-start")
async def nbd_server_start(call: Call) -> None:
    writable = call.flag("writable")
    every_drive = call.flag("all")
    if writable and not every_drive:
        raise CommandError("-w only valid together with -a")
    arguments: dict[str, Any] = {"addr": _address(call)}
    for name in ("tls-creds", "tls-authz"):
        if name in call.values:
            arguments[name] = call.text(name)
    await call.execute("nbd-server-start", arguments)
    if not every_drive:
        return
    try:
        for disk in await query_disks(call.monitor.line_target):
            if disk.node is not None:
                await call.execute("nbd-server-add", {"device": disk.name, "writable": writable})
    except CommandError:
        await call.execute("nbd-server-stop")
        raise


def _address(call: Call) -> dict[str, Any]:
    """Return where the server is to listen, as SocketAddressLegacy. Raises UsageError with a hint."""
    uri = call.text("uri")
    if uri.startswith("fd:"):
        return {"type": "fd", "data": {"str": uri.removeprefix("fd:")}}
    try:
        address = parse_address(uri).to_qapi()
    except UsageError:
        hint = listening_hint(uri)
        call.hint(hint[0].upper() + hint[1:])
        raise
    kind = address.pop("type")
    return {"type": kind, "data": address}


@handler("hmp_nbd_server_add", "nbd-server-add")
async def nbd_server_add(call: Call) -> None:
    arguments: dict[str, Any] = {"device": call.text("device"), "writable": call.flag("writable")}
    if "name" in call.values:
        arguments["name"] = call.text("name")
    await call.execute("nbd-server-add", arguments)


@handler("hmp_nbd_server_remove", "nbd-server-remove")
async def nbd_server_remove(call: Call) -> None:
    name, force = call.text("name"), call.flag("force")
    if force and call.person.interactive:
        clients = await count_clients(
            call.monitor.line_target, lambda export: export.get("x-qmon-name", export["id"]) == name
        )
        if clients:
            what = f"export '{name}'"
            await confirm(call, f"{users(clients, what)}: remove it anyway?", f"{what} was not removed")
    arguments = {"name": await _id_of(call, name), "mode": "hard" if force else "safe"}
    try:
        await call.execute("nbd-server-remove", arguments)
    except CommandError as error:
        if not force and str(error).endswith(_IN_USE):
            call.hint(f"Use nbd_server_remove -f {name} to disconnect its clients")
        raise


async def _id_of(call: Call, name: str) -> str:
    """Return the id of the export with a name, which is what the command takes; ``name`` if there is none.

    They differ only for an export that ``block-export-add`` has made.
    """
    exports = await query_exports(call.monitor.line_target)
    ids = {each.get("x-qmon-name", each["id"]): str(each["id"]) for each in exports}
    return name if name in ids.values() else ids.get(name, name)


@handler("hmp_nbd_server_stop", "nbd-server-stop")
async def nbd_server_stop(call: Call) -> None:
    if call.person.interactive and (clients := await count_clients(call.monitor.line_target)):
        question = f"{users(clients, 'the NBD server')}: stop it anyway?"
        await confirm(call, question, "The NBD server was not stopped")
    await call.execute("nbd-server-stop")

"""Stopping and continuing the machine; its status, version, name and UUID."""

from __future__ import annotations

from qmon.errors import CommandError
from qmon.hmp.commands.caution import confirm
from qmon.hmp.handlers import Call, handler
from qmon.hmp.migration_state import is_in_doubt, moves_guest
from qmon.notation.way_back import CONTINUED_HERE
from qmon.qmp.target import Kind, ask, kind_of

_MOVED = (
    "The disks have moved to another host; two machines on one disk destroy it: run anyway?",
    "The guest has moved to another host; if it runs there too, there are two of it: run it here anyway?",
)
"""The question before ``cont -f``; the second one for a QEMU's guest."""


@handler("hmp_stop", "stop")
async def stop(call: Call) -> None:
    await call.execute("stop")


@handler("hmp_cont", "cont")
async def cont(call: Call) -> None:
    force = call.flag("force")
    is_unconfirmed = await _is_unconfirmed(call)
    if force and call.person.interactive and not is_unconfirmed:
        state = await call.execute("query-status")
        if state["status"] == "postmigrate":
            question = _MOVED[kind_of(call.monitor.target) is Kind.QEMU]
            await confirm(call, question, "The machine was not started")
    try:
        await call.execute("cont", {"x-qmon-force": True} if force else None)
    except CommandError:
        info = await ask(call.monitor.line_target, "query-migrate", {})
        if is_in_doubt(info) and not moves_guest(info):  # else the error itself says it
            call.hint(
                "It is not known whether the destination runs: make sure that it does not, then"
                " migrate_resolve keep runs this machine"
            )
        raise
    if is_unconfirmed:
        call.print(CONTINUED_HERE)


async def _is_unconfirmed(call: Call) -> bool:
    """Whether the machine stands still after a migration that nobody could confirm."""
    target = call.monitor.line_target
    info = await ask(target, "query-migrate", {})
    if not info.get("x-qmon-unconfirmed"):
        return False
    return bool((await ask(target, "query-status", {})).get("status") == "postmigrate")


@handler("hmp_info_status", "query-status")
async def info_status(call: Call) -> None:
    state = await call.execute("query-status")
    text = "VM status: " + ("running" if state["running"] else "paused")
    if state.get("singlestep"):
        text += " (single step mode)"
    if not state["running"] and state["status"] != "paused":
        text += f" ({state['status']})"
    call.print(text)


@handler("hmp_info_version", "query-version")
async def info_version(call: Call) -> None:
    version = await call.execute("query-version")
    numbers = version["qemu"]
    call.print(f"{numbers['major']}.{numbers['minor']}.{numbers['micro']}{version['package']}")


@handler("hmp_info_name", "query-name")
async def info_name(call: Call) -> None:
    answer = await call.execute("query-name")
    if "name" in answer:
        call.print(answer["name"])


@handler("hmp_info_uuid", "query-uuid")
async def info_uuid(call: Call) -> None:
    answer = await call.execute("query-uuid")
    call.print(answer["UUID"])

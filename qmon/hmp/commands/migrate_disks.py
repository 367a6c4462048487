"""``migrate blk`` on a QEMU: two consoles move the guest and its disks (``qmon.remote.migration``).

A line that names the disks is the console's; any other ``migrate`` is QEMU's own. While the console's
migration is under way, lines that would change it go to the console too, and those that would break it are
refused.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands import machine_state, migration, migration_settings
from qmon.hmp.commands.address_hints import is_no_console, is_nobody, there, with_address_hint
from qmon.hmp.commands.columns import paragraph
from qmon.hmp.commands.info_migrate import info_migrate
from qmon.hmp.commands.migration_info import left_behind_lines
from qmon.hmp.commands.migration_parameters import CONSOLES, parameter_lines
from qmon.hmp.commands.migration_trial import ANNOUNCE_SECONDS, check_flags, refusal, trial_sizes
from qmon.hmp.handlers import Call, explains, on_qemu
from qmon.hmp.migration_state import is_ours, is_under_way
from qmon.hmp.migration_words import matched_lines
from qmon.hmp.passing import ask_target, check, pass_on
from qmon.hmp.person import LineError
from qmon.notation.plain_text import in_one_line, one_line
from qmon.qmp.target import MIGRATE_DISKS, ask

LISTEN = "x-qmon-migrate-incoming"
"""The command of a console that was started with ``-incoming``: it listens for another console."""

_NOBODY = (
    "There a console must wait: 'qmon -connect unix:QMP -incoming {uri}' on a QEMU"
    " started with -incoming defer"
)
_MEMORY_ONLY = (
    "This waits for memory only, not for disks. For a guest with its disks start the QEMU again with"
    " -incoming defer, then 'qmon -connect {target} -incoming {uri}'"
)

_EXPLANATION = (
    "With blk or inc this console moves the guest, its memory and its disks, to a QEMU there that was started"
    " with -incoming defer, and whose console listens: qmon -connect unix:PATH -incoming tcp:0:PORT.",
    "QEMU's own -b and -i are not used. QEMU 9.1 has dropped them, and in QEMU 7.2 they can lose what the"
    " guest writes. Without blk and inc the line is QEMU's own: no disk is copied, and nothing checks that"
    " the destination uses the same ones, on shared storage.",
)

BUSY = "There's a migration process in progress"
"""QEMU's words for a command that a migration forbids."""


def moves_disks(call: Call) -> bool:
    """Whether a ``migrate`` is the console's."""
    return call.has(MIGRATE_DISKS) and any(map(call.flag, ("blk", "inc", "trial")))


@with_address_hint
async def migrate_disks(call: Call) -> None:
    if call.flag("resume"):
        raise LineError(
            "migrate: -r is for QEMU's own migrations: leave out blk and inc, or start anew without -r"
        )
    arguments = {"uri": call.text("uri"), "inc": call.flag("inc")}
    if call.flag("trial"):
        await _try_out(call, arguments)
        return
    result = await execute_listed(call, MIGRATE_DISKS, arguments)
    for warning in result.get("warnings", ()):
        call.print(f"warning: {warning}")
    for line in _empty_line(result):
        call.print(line)
    info = await call.execute("query-migrate")
    for line in matched_lines(info.get("x-qmon-disks", ())):
        call.print(line)
    await migration.follow(call, info)


async def _try_out(call: Call, arguments: Mapping[str, Any]) -> None:
    check_flags(call)
    announcement = asyncio.get_running_loop().call_later(ANNOUNCE_SECONDS, _announce, call)
    try:
        result = await execute_listed(call, MIGRATE_DISKS, {**arguments, "trial": True})
    finally:
        announcement.cancel()
    if result["mismatches"]:
        raise LineError(refusal(result["mismatches"]))
    for line in _trial_lines(result):
        call.print(line)


def _announce(call: Call) -> None:
    if call.person.interactive:
        call.print("A trial: nothing is moved or changed. The two sides compare their disks.")


def _trial_lines(result: Mapping[str, Any]) -> Iterator[str]:
    disks = result["x-qmon-disks"]
    yield f"{result['x-qmon-peer']} would accept the migration."
    yield f"  to send: up to {trial_sizes(disks)} of disks, and the guest's memory"
    yield from matched_lines(disks)
    for warning in result["warnings"]:
        yield f"warning: {warning}"
    yield from left_behind_lines({"x-qmon-stays-behind": result["left"]})
    yield from _empty_line(result)


def _empty_line(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield which drives have no medium on either side: nothing is lost, so it is said once."""
    if names := result.get("empty"):
        yield f"Empty drives: {', '.join(names)}"


async def execute_listed(call: Call, command: str, arguments: Mapping[str, Any]) -> Any:
    """Run a command whose error has a reason on each line.

    Raises CommandError for one reason, LineError for several.
    """
    try:
        return in_one_line(await call.monitor.line_target.execute(command, arguments))
    except CommandError as error:
        reasons = [one_line(each) for each in str(error).split("\n") if each.strip()]
        if len(reasons) > 1:
            raise LineError(refusal(reasons, "is")) from error
        text = "".join(reasons)
        if is_nobody(text) or is_no_console(text):
            call.hint(_NOBODY.format(uri=there(str(arguments["uri"]))))
        raise CommandError(text, error.error_class) from error


async def _under_way(call: Call) -> Mapping[str, Any]:
    """Return query-migrate's answer if a migration of the console is under way, else {}."""
    info: Mapping[str, Any] = (
        await ask(call.monitor.line_target, "query-migrate", {}) if call.has(MIGRATE_DISKS) else {}
    )
    return info if is_ours(info) and is_under_way(info) else {}


async def refuse_while_moving(call: Call) -> None:
    """Raises CommandError while a migration of the console is under way."""
    if await _under_way(call):
        raise CommandError(f"{BUSY}: 'migrate_cancel' cancels it")


async def _pass_unless_moving(call: Call) -> None:
    await refuse_while_moving(call)
    await pass_on(call)


for _name in (
    "migrate_set_capability",
    "migrate_pause",
    "migrate_recover",
    "migrate_start_postcopy",
    "savevm",
    "loadvm",
):
    on_qemu(f"hmp_{_name}")(_pass_unless_moving)


@explains("hmp_migrate")
async def explanation(call: Call, everything: bool) -> list[str]:
    if not call.has(MIGRATE_DISKS):
        return []
    return [line for text in _EXPLANATION for line in paragraph(text, "  ")]


@on_qemu("hmp_migrate_cancel")
async def migrate_cancel(call: Call) -> None:
    info = await _under_way(call)
    if info.get("x-qmon-side") == "destination":
        raise CommandError("Only the source cancels the migration: type 'migrate_cancel' at its console")
    await (migration.migrate_cancel if info else pass_on)(call)


@on_qemu("hmp_migrate_continue")
async def migrate_continue(call: Call) -> None:
    info = await _under_way(call)
    if not info:
        await pass_on(call)
    elif info.get("x-qmon-waits"):
        await migration.migrate_continue(call)
    else:
        raise CommandError("The migration does not wait for you: the console continues it itself")


@on_qemu("hmp_migrate_incoming")
async def migrate_incoming(call: Call) -> None:
    if not call.has(MIGRATE_DISKS):
        await pass_on(call)
        return
    info = await ask(call.monitor.line_target, "query-migrate", {})
    if is_ours(info) and "socket-address" in info:
        raise CommandError("This console listens for a migration already: 'info migrate' shows where")
    if not call.has(LISTEN):
        await _pass_unless_moving(call)
        if call.text("uri").startswith(("tcp:", "unix:")):
            target = call.monitor.connected_to or "unix:QMP"
            call.warn(_MEMORY_ONLY.format(target=target, uri=call.text("uri")))
        return
    await execute_listed(call, LISTEN, {"uri": call.text("uri")})


@on_qemu("hmp_migrate_set_parameter")
async def migrate_set_parameter(call: Call) -> None:
    is_consoles = call.has(MIGRATE_DISKS) and call.text("parameter") in CONSOLES
    await (migration_settings.migrate_set_parameter if is_consoles else pass_on)(call)


@on_qemu("hmp_info_migrate_parameters")
async def info_migrate_parameters(call: Call) -> None:
    """Print QEMU's answer, with what the console keeps itself in place of QEMU's own."""
    answer = await ask_target(call)
    check(call, answer)
    ours = {}
    if call.has(MIGRATE_DISKS):
        found = await call.execute("query-migrate-parameters")
        kept = {name: found[name] for name in CONSOLES if name in found}
        ours = {line.partition(":")[0]: line for line in parameter_lines(kept)}
    lines = [ours.pop(line.partition(":")[0], line) for line in answer.split("\n")]
    for line in (*lines, *ours.values()):
        call.print(line)


@on_qemu("hmp_info_migrate")
async def info_migrate_here(call: Call) -> None:
    if call.flag("timeline"):
        raise LineError("A QEMU keeps no time line of its migrations: 'info migrate' shows what it knows")
    info = await ask(call.monitor.line_target, "query-migrate", {}) if call.has(MIGRATE_DISKS) else {}
    await (info_migrate if is_ours(info) else pass_on)(call)


@on_qemu("hmp_cont")
async def cont(call: Call) -> None:
    await (machine_state.cont if call.has(MIGRATE_DISKS) else pass_on)(call)

"""Migration: starting, watching, cancelling and resolving it."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands.address_hints import nobody_there, with_address_hint
from qmon.hmp.commands.choices import execute_choice
from qmon.hmp.commands.migration_end import told_end
from qmon.hmp.commands.migration_info import left_behind_lines
from qmon.hmp.commands.migration_one_way import confirm_overwriting, tell_who_waits
from qmon.hmp.commands.migration_trial import try_out
from qmon.hmp.handlers import Call, handler
from qmon.hmp.migration_state import POLL_SECONDS, is_over, moves_guest, moves_guest_away
from qmon.hmp.migration_words import amount, details, pace, summary, unconfirmed_line
from qmon.hmp.person import Detaches
from qmon.notation.way_back import moved
from qmon.qmp.target import ask

EARLY_END_SECONDS = 0.5
"""At a terminal ``migrate -d`` waits so long for an early failure, to print its reason."""


NOTICE_SECONDS = 5.0
"""How long ``migrate`` shows the progress before it says at a terminal what Ctrl-C does."""


@handler("hmp_migrate", "migrate")
@with_address_hint
async def migrate(call: Call) -> None:
    try:
        await _migrate(call)
    except CommandError as error:
        call.hint(nobody_there(str(error)) or await _where_the_disks_are(call))
        raise


async def _where_the_disks_are(call: Call) -> str | None:
    """Return where the disks are and the way back, if an earlier migration has moved them from here.

    Of one that is paused, return how it goes on.
    """
    target = call.monitor.line_target
    state = await ask(target, "query-status", {})
    info = await ask(target, "query-migrate", {})
    if info.get("status") == "postcopy-paused" and info.get("x-qmon-side") == "source":
        peer = info.get("x-qmon-peer", "the destination")
        return f"The migration to {peer} is paused: 'migrate -r URI' continues it, migrate_cancel ends it"
    is_gone = state.get("status") == "postmigrate" and info.get("x-qmon-side") == "source"
    return moved(info.get("x-qmon-peer")) if is_gone else None


async def _migrate(call: Call) -> None:
    arguments: dict[str, Any] = {"uri": call.text("uri")}
    for flag in ("blk", "inc"):
        if call.flag(flag):
            arguments[flag] = True
    if call.flag("trial"):
        await try_out(call, arguments)
        return
    if call.flag("resume"):
        arguments["resume"] = True
    await confirm_overwriting(call)
    await call.execute("migrate", arguments)
    info = await call.execute("query-migrate")
    tell_who_waits(call, info)
    await follow(call, info)


async def follow(call: Call, info: Mapping[str, Any]) -> None:
    """Say what a migration that has begun leaves behind; wait for its end, or for a moment with ``-d``."""
    for line in left_behind_lines(info):
        call.print(f"warning: {line}")
    if not call.flag("detach") and isinstance(call.person, Detaches):
        call.print("terminal does not allow synchronous migration, continuing detached")
    elif not call.flag("detach"):
        await wait_for_end(call, info)
    elif call.person.interactive:
        await look_for_early_end(call, info)


async def look_for_early_end(call: Call, info: Mapping[str, Any]) -> None:
    """Wait a moment. Raises CommandError if the migration fails in it."""
    deadline = asyncio.get_running_loop().time() + EARLY_END_SECONDS
    while not is_over(info):
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return
        await asyncio.sleep(min(left, EARLY_END_SECONDS / 10))
        info = await call.execute("query-migrate")
    await told_end(call, info)


async def wait_for_end(call: Call, info: Mapping[str, Any]) -> None:
    """Show the progress until the migration ends. Raises CommandError if it fails or is cancelled."""
    try:
        info = await _show_progress(call, info)
    except asyncio.CancelledError:
        if _goes_on_without(call, info):
            call.print("The migration continues in the background: 'migrate_cancel' cancels it")
        raise
    await told_end(call, info)
    tells_all = call.person.interactive or moves_guest_away(info)
    if tells_all and info.get("status") == "completed":
        call.print(f"Migrated {summary(info)}".rstrip())
    for line in details(info) if tells_all else left_behind_lines(info):
        call.print(line)
    if not tells_all and info.get("x-qmon-unconfirmed"):
        call.print(unconfirmed_line(info))


def _goes_on_without(call: Call, info: Mapping[str, Any]) -> bool:
    """Whether a migration goes on when its line is left: a script's end would end one that needs qmon."""
    return call.person.interactive or (call.monitor.connected_to != "" and not moves_guest(info))


async def _show_progress(call: Call, info: Mapping[str, Any]) -> Mapping[str, Any]:
    """Poll until the migration has ended; ``info`` and the result are MigrationInfos of ``query-migrate``."""
    progress = call.person.progress("migrate")
    loop = asyncio.get_running_loop()
    notice_due = loop.time() + NOTICE_SECONDS if call.person.interactive else math.inf
    try:
        while not is_over(info):
            if loop.time() >= notice_due:
                call.print("Ctrl-C returns to the prompt; the migration goes on")
                notice_due = math.inf
            if (moved_so_far := amount(info)) is not None:
                progress.update(*moved_so_far, pace(info))
            await asyncio.sleep(POLL_SECONDS)
            info = await call.execute("query-migrate")
        return info
    finally:
        progress.close()


@handler("hmp_migrate_incoming", "migrate-incoming")
@with_address_hint
async def migrate_incoming(call: Call) -> None:
    await call.execute("migrate-incoming", {"uri": call.text("uri")})


@handler("hmp_migrate_cancel", "migrate_cancel")
async def migrate_cancel(call: Call) -> None:
    await call.execute("migrate_cancel")


@handler("hmp_migrate_resolve", "x-qmon-migrate-resolve")
async def migrate_resolve(call: Call) -> None:
    await call.execute("x-qmon-migrate-resolve", {"action": call.text("action")})


@handler("hmp_migrate_continue", "migrate-continue")
async def migrate_continue(call: Call) -> None:
    await execute_choice(call, "migrate-continue", {"state": call.text("state")})


@handler("hmp_migrate_start_postcopy", "migrate-start-postcopy")
async def migrate_start_postcopy(call: Call) -> None:
    await call.execute("migrate-start-postcopy")

"""Migration: starting it, waiting for it, its parameters and what it says of itself."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands.migration_parameters import parameter_lines, read_parameter
from qmon.hmp.handlers import Call, handler
from qmon.units import KIB, human_size

POLL_SECONDS = 0.1
EARLY_END_SECONDS = 0.5
"""How long ``migrate -d`` looks whether the migration ends at once, for somebody at a terminal to see why."""

UNDER_WAY = frozenset(
    (
        *("setup", "active", "pre-switchover", "device", "cancelling", "wait-unplug"),
        *("postcopy-active", "postcopy-recover", "colo"),
    )
)
_GLOBALS = (
    "globals:",
    "store-global-state: on",
    "only-migratable: off",
    "send-configuration: on",
    "send-section-footer: on",
    "decompress-error-check: on",
    "clear-bitmap-shift: 18",
)
_RAM_ROWS = (
    ("transferred ram: {} kbytes", "transferred", KIB),
    ("throughput: {:.2f} mbps", "mbps", 0),
    ("remaining ram: {} kbytes", "remaining", KIB),
    ("total ram: {} kbytes", "total", KIB),
    ("duplicate: {} pages", "duplicate", 1),
    ("skipped: {} pages", "skipped", 1),
    ("normal: {} pages", "normal", 1),
    ("normal bytes: {} kbytes", "normal-bytes", KIB),
    ("dirty sync count: {}", "dirty-sync-count", 1),
    ("page size: {} kbytes", "page-size", KIB),
    ("multifd bytes: {} kbytes", "multifd-bytes", KIB),
    ("pages-per-second: {}", "pages-per-second", 1),
)
"""Template, field of MigrationStats, and what the field is divided by; 0 keeps a fraction."""


@handler("hmp_migrate")
async def migrate(call: Call) -> None:
    arguments: dict[str, Any] = {"uri": call.text("uri")}
    for flag in ("blk", "inc", "resume"):
        if call.flag(flag):
            arguments[flag] = True
    await call.execute("migrate", arguments)
    if not call.flag("detach"):
        await _wait(call)
    elif call.person.interactive:
        await _look_for_early_end(call)


async def _look_for_early_end(call: Call) -> None:
    deadline = asyncio.get_running_loop().time() + EARLY_END_SECONDS
    while not _is_over(info := await call.execute("query-migrate")):
        left = deadline - asyncio.get_running_loop().time()
        if left <= 0:
            return
        await asyncio.sleep(min(left, EARLY_END_SECONDS / 10))
    _check_end(info)


async def _wait(call: Call) -> None:
    """Show the progress until the migration ends. Raises CommandError when that is by failure or cancel."""
    try:
        info = await _show_progress(call)
    except asyncio.CancelledError:
        call.print("The migration goes on in the background: see 'info migrate', stop it by 'migrate_cancel'")
        raise
    _check_end(info)
    if call.person.interactive and info.get("status") == "completed":
        call.print(_summary(info))


def _summary(info: Mapping[str, Any]) -> str:
    """What somebody who watched it wants to know."""
    took = f"{info.get('total-time', 0) / 1000:.1f} s, downtime {info.get('downtime', 0)} ms"
    disk = info.get("disk")
    return f"Migrated {human_size(disk['transferred'])} in {took}" if disk else f"Migrated in {took}"


async def _show_progress(call: Call) -> Mapping[str, Any]:
    """Poll until the migration has ended; return what ``query-migrate`` said then."""
    progress = call.person.progress("migrate")
    try:
        while True:
            info: Mapping[str, Any] = await call.execute("query-migrate")
            if _is_over(info):
                return info
            disk = info.get("disk")
            if disk:
                progress.update(disk["total"] - disk["remaining"], disk["total"])
            await asyncio.sleep(POLL_SECONDS)
    finally:
        progress.close()


def _is_over(info: Mapping[str, Any]) -> bool:
    """Whether waiting is of no more use: an error at the switchover is doubt, which only a person ends."""
    return info.get("status") not in UNDER_WAY or is_in_doubt(info)


def is_in_doubt(info: Mapping[str, Any]) -> bool:
    """Whether a MigrationInfo is of a side that does not know whether the other runs."""
    return info.get("status") == "device" and "error-desc" in info


def _check_end(info: Mapping[str, Any]) -> None:
    match info.get("status"):
        case "device":
            raise CommandError(info["error-desc"])
        case "failed":
            raise CommandError(info.get("error-desc") or "the migration failed")
        case "cancelled":
            raise CommandError(info.get("error-desc") or "the migration was cancelled")
        case "postcopy-paused":
            raise CommandError(info.get("error-desc") or "the migration is paused: go on by 'migrate -r URI'")


@handler("hmp_migrate_incoming")
async def migrate_incoming(call: Call) -> None:
    await call.execute("migrate-incoming", {"uri": call.text("uri")})


@handler("hmp_migrate_cancel")
async def migrate_cancel(call: Call) -> None:
    await call.execute("migrate_cancel")


@handler("hmp_migrate_resolve")
async def migrate_resolve(call: Call) -> None:
    await call.execute("x-qmon-migrate-resolve", {"action": call.text("action")})


@handler("hmp_migrate_set_parameter")
async def migrate_set_parameter(call: Call) -> None:
    name = call.text("parameter")
    await call.execute("migrate-set-parameters", {name: read_parameter(name, call.text("value"))})


@handler("hmp_migrate_set_speed")
async def migrate_set_speed(call: Call) -> None:
    await call.execute("migrate-set-parameters", {"max-bandwidth": call.values["value"]})


@handler("hmp_migrate_set_downtime")
async def migrate_set_downtime(call: Call) -> None:
    downtime_ms = round(float(call.values["value"]) * 1000)
    await call.execute("migrate-set-parameters", {"downtime-limit": downtime_ms})


@handler("hmp_info_migrate_parameters")
async def info_migrate_parameters(call: Call) -> None:
    for line in parameter_lines(await call.execute("query-migrate-parameters")):
        call.print(line)


@handler("hmp_info_migrate")
async def info_migrate(call: Call) -> None:
    for line in migration_lines(await call.execute("query-migrate")):
        call.print(line)


def migration_lines(info: Mapping[str, Any]) -> list[str]:
    """The lines for a MigrationInfo (qapi/migration.json), with ``x-qmon-disks`` where there are several."""
    lines = list(_GLOBALS)
    if "blocked-reasons" in info:
        lines.append("Outgoing migration blocked:")
        lines += [f"  {why}" for why in info["blocked-reasons"]]
    if "status" in info:
        lines += _state_lines(info)
    ram = info.get("ram")
    if ram:
        for template, field, divisor in _RAM_ROWS:
            value = ram.get(field, 0)
            lines.append(template.format(value // divisor if divisor else value))
    disk = info.get("disk")
    if disk:
        for field in ("transferred", "remaining", "total"):
            lines.append(f"{field} disk: {disk[field] // KIB} kbytes")
        if not ram and disk.get("dirty-sync-count"):
            lines.append(f"dirty sync count: {disk['dirty-sync-count']}")
    disks = info.get("x-qmon-disks", [])
    if len(disks) > 1:
        lines += [_disk_line(one) for one in disks]
    return lines


def _disk_line(disk: Mapping[str, Any]) -> str:
    fields = [field for field in ("transferred", "remaining", "total") if field in disk]
    figures = ", ".join(f"{field} {disk[field] // KIB}" for field in fields)
    return f"disk '{disk['drive']}': {figures} kbytes"


def _state_lines(info: Mapping[str, Any]) -> list[str]:
    state = f"Migration status: {info['status']}"
    if "error-desc" in info and (info["status"] == "failed" or is_in_doubt(info)):
        state += f" ({info['error-desc']})"
    lines = [state, f"total time: {info.get('total-time', 0)} ms"]
    for name, field in (
        ("expected downtime", "expected-downtime"),
        ("downtime", "downtime"),
        ("setup", "setup-time"),
    ):
        if field in info:
            lines.append(f"{name}: {info[field]} ms")
    return lines

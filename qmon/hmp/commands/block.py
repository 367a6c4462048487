"""Drives: removing and listing them, and their statistics."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.clients import users
from qmon.hmp.commands.caution import confirm, drive_clients
from qmon.hmp.commands.image_info import image_info_lines
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.qmp.target import MACHINE

THROTTLE_LIMITS = tuple(
    """
    bps bps_rd bps_wr bps_max bps_rd_max bps_wr_max
    iops iops_rd iops_wr iops_max iops_rd_max iops_wr_max iops_size
    """.split()
)

BLOCK_FIGURES = tuple(
    """
    rd_bytes wr_bytes rd_operations wr_operations flush_operations wr_total_time_ns rd_total_time_ns
    flush_total_time_ns rd_merged wr_merged idle_time_ns
    """.split()
)


@handler("hmp_drive_del", "x-qmon-drive-del")
async def drive_del(call: Call) -> None:
    if call.person.interactive and (clients := await drive_clients(call, call.text("id"))):
        name = f"'{call.text('id')}'"
        await confirm(call, f"{users(clients, name)}: remove it anyway?", f"{name} was not removed")
    try:
        await call.execute("x-qmon-drive-del", {"id": call.text("id")})
    except CommandError as error:
        raise LineError(str(error)) from error


@handler("hmp_info_block", "query-block", MACHINE)
async def info_block(call: Call) -> None:
    device = call.values.get("device")
    verbose = call.flag("verbose")
    printed = False
    if not call.flag("nodes"):
        blocks = await call.execute("query-block")
        for number, block in enumerate(blocks):
            if device is None or block["device"] == device:
                print_block(call, block, block.get("inserted"), verbose, number)
                printed = True
        if device is None or printed:
            return
    if not call.flag("nodes") and not call.has("query-named-block-nodes"):
        return
    nodes = await call.execute("query-named-block-nodes")
    for number, node in enumerate(nodes):
        if device is None or node.get("node-name") == device:
            print_block(call, None, node, verbose, number)


@handler("hmp_info_blockstats", "query-blockstats", MACHINE)
async def info_blockstats(call: Call) -> None:
    for entry in await call.execute("query-blockstats"):
        if "device" not in entry:
            continue
        name = entry["device"] or entry.get("qdev") or entry.get("node-name", "")
        figures = " ".join(f"{figure}={entry['stats'].get(figure, 0)}" for figure in BLOCK_FIGURES)
        call.print(f"{name}: {figures}")


def print_block(
    call: Call,
    block: Mapping[str, Any] | None,
    node: Mapping[str, Any] | None,
    verbose: bool,
    number: int,
) -> None:
    """Print a drive or a single node; all but the first have a blank line before them."""
    if number:
        call.print("")
    for line in block_lines(block, node, verbose):
        call.print(line)


def block_lines(block: Mapping[str, Any] | None, node: Mapping[str, Any] | None, verbose: bool) -> list[str]:
    """Return the lines for a BlockInfo and its BlockDeviceInfo (qapi/block-core.json); either may be None."""
    node_name = node.get("node-name") if node else None
    if block and block["device"]:
        title = block["device"] + (f" ({node_name})" if node_name else "")
    else:
        title = node_name or (block or {}).get("qdev") or "<anonymous>"
    if node:
        read_only = ", read-only" if node["ro"] else ""
        encrypted = ", encrypted" if node.get("encrypted") else ""
        lines = [f"{title}: {node['file']} ({node['drv']}{read_only}{encrypted})"]
    else:
        lines = [f"{title}: [not inserted]"]
    if block:
        lines += _device_lines(block)
    if node:
        lines += _node_lines(node)
        if verbose:
            lines += ["", "Images:", *image_info_lines(node["image"])]
    return lines


def _device_lines(block: Mapping[str, Any]) -> list[str]:
    lines = []
    if block.get("qdev"):
        lines.append(_field("Attached to:", block["qdev"]))
    if block.get("io-status", "ok") != "ok":
        lines.append(_field("I/O status:", block["io-status"]))
    if block.get("removable"):
        locked = "locked" if block.get("locked") else "not locked"
        tray = "open" if block.get("tray_open") else "closed"
        lines.append(_field("Removable device:", f"{locked}, tray {tray}"))
    return lines


def _node_lines(node: Mapping[str, Any]) -> list[str]:
    cache = node["cache"]
    mode = "writeback" if cache["writeback"] else "writethrough"
    mode += ", direct" if cache["direct"] else ""
    mode += ", ignore flushes" if cache["no-flush"] else ""
    lines = [_field("Cache mode:", mode)]
    if "backing_file" in node:
        depth = node.get("backing_file_depth", 0)
        lines.append(_field("Backing file:", f"{node['backing_file']} (chain depth: {depth})"))
    if node.get("detect_zeroes", "off") != "off":
        lines.append(_field("Detect zeroes:", node["detect_zeroes"]))
    if any(node.get(limit) for limit in THROTTLE_LIMITS[:3] + THROTTLE_LIMITS[6:9]):
        limits = " ".join(f"{limit}={node.get(limit, 0)}" for limit in THROTTLE_LIMITS)
        lines.append(_field("I/O throttling:", f"{limits} group={node.get('group', '')}"))
    return lines


def _field(name: str, value: str) -> str:
    return f"    {name:<18}{value}"

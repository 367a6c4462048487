"""The disks of a storage daemon: listing its nodes, adding and removing them."""

from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError, UsageError
from qmon.hmp.commands.block import print_block
from qmon.hmp.commands.drive_add import short_forms
from qmon.hmp.commands.refusals import THROTTLING
from qmon.hmp.commands.snapshots import snapshot_list
from qmon.hmp.disks import find_disk, query_disks
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.notation.drive_keys import is_known_key
from qmon.notation.drive_options import read_drive
from qmon.notation.introspection import Introspection
from qmon.notation.json_text import parse_json
from qmon.notation.keyval import HELP_WORDS, parse_keyval
from qmon.notation.keyval_tree import parse_tree

_NODES = "query-named-block-nodes"
_SCHEMA = "query-qmp-schema"

_CACHE = {"none": {"cache.direct": "on"}, "unsafe": {"cache.no-flush": "on"}, "writeback": {}, "off": {}}
_CACHE["off"] = _CACHE["none"]
"""``cache=`` as options of a node. The other modes are an export's, not a node's."""

_OF_A_DEVICE = frozenset(
    "id if index bus unit media werror rerror cache aio format file readonly node-name".split()
)
"""Options of a drive that are no options of its node, or have another name there."""


@handler("hmp_info_block", _NODES, is_substitute=True)
async def info_block(call: Call) -> None:
    device = call.values.get("device")
    target = call.monitor.line_target
    if call.flag("nodes"):
        nodes = [each for each in await call.execute(_NODES) if device in (None, each["node-name"])]
    elif device is None:
        nodes = [disk.node for disk in await query_disks(target)]
    else:
        disk = await find_disk(target, str(device))
        nodes = [] if disk is None else [disk.node]
    for number, node in enumerate(nodes):
        print_block(call, None, node, call.flag("verbose"), number)


@handler("hmp_info_blockstats", "query-blockstats", _NODES, is_substitute=True)
async def info_blockstats(call: Call) -> None:
    names = {disk.name for disk in await query_disks(call.monitor.line_target)}
    for entry in await call.execute("query-blockstats", {"query-nodes": True}):
        if entry.get("node-name") in names:
            # A node's requests are not counted. What is counted differs by driver.
            own = {k: v for k, v in entry.get("driver-specific", {}).items() if k != "driver"}
            figures = {"wr_highest_offset": entry["stats"]["wr_highest_offset"], **own}
            call.print(f"{entry['node-name']}: {' '.join(f'{k}={v}' for k, v in figures.items())}")


@handler("hmp_info_snapshots", _NODES, is_substitute=True)
async def info_snapshots(call: Call) -> None:
    disks = await query_disks(call.monitor.line_target)
    images = [(disk.name, disk.node["image"]) for disk in disks if disk.node and disk.node["drv"] == "qcow2"]
    for line in snapshot_list(
        [{"device": name, "snapshots": image.get("snapshots", [])} for name, image in images]
    ):
        call.print(line)


@handler("hmp_drive_del", "blockdev-del", is_substitute=True)
async def drive_del(call: Call) -> None:
    try:
        await call.execute("blockdev-del", {"node-name": call.text("id")})
    except CommandError as error:
        if str(error).endswith("is in use"):
            call.hint("What uses it: 'info nbd' lists exports, 'info block-jobs' jobs; remove that first")
        raise LineError(str(error)) from error


@handler("hmp_drive_add", "blockdev-add", _SCHEMA, is_substitute=True)
async def drive_add(call: Call) -> None:
    text = call.text("opts")
    schema = Introspection(await call.execute_raw(_SCHEMA))
    try:
        if call.flag("node"):
            options = _tree(_with_file_driver(parse_keyval(text)))
        else:
            for warning in short_forms(text):
                call.print(warning)
            keys = parse_keyval(text)
            if keys.get("format", keys.get("driver")) in HELP_WORDS:
                call.print(f"Supported formats: {' '.join(sorted(schema.cases('blockdev-add')))}")
                return
            options = await _node_of(keys)
        await call.execute("blockdev-add", schema.read("blockdev-add", options))
    except (CommandError, UsageError) as error:
        raise LineError(str(error)) from error
    if not call.flag("node"):
        call.print("OK")


async def _node_of(keys: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of the node that a drive would have. Raises UsageError."""
    drive = read_drive({key: value for key, value in keys.items() if is_known_key(key)}, "none")
    names = {name for name in (drive.id, drive.node_name) if name}
    if len(names) != 1:
        raise UsageError("a storage daemon's disk has one name: write id=NAME")
    if drive.format is None:
        raise UsageError("a storage daemon does not find out the format: write format=qcow2 or format=raw")
    if drive.limits or drive.group:
        raise UsageError(THROTTLING)
    if drive.is_temporary or keys.get("copy-on-read") in ("on", "yes"):
        raise UsageError("snapshot=on and copy-on-read=on are not possible on a storage daemon")
    options: dict[str, Any] = {"driver": drive.format, "node-name": names.pop()}
    if drive.read_only:
        options["read-only"] = "on"
    if "cache" in keys:
        if keys["cache"] not in _CACHE:
            raise UsageError(
                f"cache={keys['cache']} is not possible on a storage daemon: use none or writeback"
            )
        options |= _CACHE[keys["cache"]]
    if "aio" in keys:
        options["file.aio"] = keys["aio"]
    options |= {key: value for key, value in keys.items() if key not in _OF_A_DEVICE}
    if options.get("discard") in ("on", "off"):
        options["discard"] = {"on": "unmap", "off": "ignore"}[options["discard"]]
    if drive.file.startswith("json:"):
        return {**_tree(options), "file": parse_json(drive.file.removeprefix("json:"))}
    if drive.file:
        options["file.filename"] = drive.file
        options.setdefault("file.driver", await asyncio.to_thread(_driver_of, drive.file))
    return _tree(_with_file_driver(options))


def _driver_of(path: str) -> str:
    """Return the driver of a file, as far as it can be seen from here."""
    try:
        is_device = stat.S_ISBLK(os.stat(path).st_mode)
    except OSError:  # the daemon says what is wrong with it
        is_device = False
    return "host_device" if is_device else "file"


def _with_file_driver(options: Mapping[str, str]) -> dict[str, str]:
    """Return options where a file without a driver has one."""
    given = dict(options)
    if "file.filename" in given:
        given.setdefault("file.driver", "file")
    return given


def _tree(options: Mapping[str, str]) -> dict[str, Any]:
    """Return options with dots in their names as a tree. Raises UsageError."""
    doubled = (f"{key}={value.replace(',', ',,')}" for key, value in options.items())
    return parse_tree(",".join(doubled))[0]

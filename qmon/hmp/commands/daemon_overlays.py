"""Overlays on a storage daemon: writing one to its backing image, and making one."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Mapping
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.commands.wait import wait_for_job
from qmon.hmp.disks import Disk, find_disk, query_disks, with_job_id
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError

_NODES = "query-named-block-nodes"


@handler("hmp_commit", "block-commit", "block-job-cancel", "query-jobs", _NODES, is_substitute=True)
async def commit(call: Call) -> None:
    name = call.text("device")
    if name == "all":
        disks = [disk for disk in await query_disks(call.monitor.line_target) if _backing(disk)]
    else:
        disks = [await _disk(call, name)]
    for disk in disks:
        if not _backing(disk):
            raise LineError(f"'{disk.name}' has no backing image to be written to")
        await _commit(call, disk.name)


async def _commit(call: Call, name: str) -> None:
    """Write an overlay to its backing image, and keep it in use, as QEMU's monitor does.

    Not by ``job-complete``: guests would then write to the backing image, under an overlay with older data.
    """
    arguments = with_job_id(call.monitor.target, name)
    job = arguments["job-id"]
    try:
        await call.execute("block-commit", arguments)
        await wait_for_job(call, job)
        if job not in call.monitor.jobs:
            await call.execute("block-job-cancel", {"device": job, "force": False})
            await wait_for_job(call, job, until_ready=False)
    except CommandError as error:
        raise LineError(str(error)) from error
    except asyncio.CancelledError:
        call.print(f"When it is ready, 'block_job_cancel {job}' ends it, and all is written")
        raise


def _backing(disk: Disk) -> str | None:
    name = (disk.node or {}).get("backing_file")
    return None if name is None else str(name)


async def _disk(call: Call, name: str) -> Disk:
    disk = await find_disk(call.monitor.line_target, name)
    if disk is None or disk.node is None:
        raise LineError(f"Device '{name}' not found")
    if disk.name not in {each.name for each in await query_disks(call.monitor.line_target)}:
        raise LineError(f"'{name}' is below another node: 'info block' lists the disks, which are on top")
    return disk


@handler(
    "hmp_snapshot_blkdev", "blockdev-snapshot", "blockdev-create", "blockdev-add", _NODES, is_substitute=True
)
async def snapshot_blkdev(call: Call) -> None:
    """Put a new overlay above a disk.

    Not by ``blockdev-snapshot-sync``: its overlay is gone as soon as no export uses it.
    """
    if "snapshot-file" not in call.values:
        raise CommandError("Parameter 'snapshot-file' is missing")
    disk = await _disk(call, call.text("device"))
    file, format_ = call.text("snapshot-file"), call.text("format", "qcow2")
    top = _next_name(disk.name, {node["node-name"] for node in await call.execute(_NODES)})
    if not call.flag("reuse"):
        await _create(call, disk, file, format_)
    overlay = {"driver": format_, "node-name": top, "file": {"driver": "file", "filename": file}}
    await call.execute("blockdev-add", {**overlay, "backing": None})
    try:
        await call.execute("blockdev-snapshot", {"node": disk.name, "overlay": top})
    except CommandError:
        await call.execute("blockdev-del", {"node-name": top})
        raise
    call.print(f"'{top}' is the disk now, and '{disk.name}' its backing node")


def _next_name(name: str, taken: set[str]) -> str:
    """Return the name of the node above a node: ``d0-1`` above ``d0``, ``d0-2`` above ``d0-1``."""
    counted = re.fullmatch(r"(.*)-(\d{1,6})", name)
    stem, number = (counted[1], int(counted[2])) if counted else (name, 0)
    while True:
        number += 1
        if f"{stem}-{number}" not in taken:
            return f"{stem}-{number}"


async def _create(call: Call, disk: Disk, file: str, format_: str) -> None:
    """Create an empty overlay of a disk. Raises CommandError."""
    assert disk.node is not None
    size = disk.size_bytes or 0
    node = f"{disk.name}-new"
    backing: dict[str, Any] = {"backing-file": _seen_from(file, disk.node)}
    if format_ in ("qcow2", "qed"):
        backing["backing-fmt"] = disk.node["drv"]
    await _check_free(call, node, file)
    await _run_job(call, node, {"driver": "file", "filename": file, "size": 0})
    await call.execute("blockdev-add", {"driver": "file", "node-name": node, "filename": file})
    try:
        await _run_job(call, node, {"driver": format_, "file": node, "size": size, **backing})
    finally:
        await call.execute("blockdev-del", {"node-name": node})


async def _check_free(call: Call, node: str, file: str) -> None:
    """Raise CommandError if a file has contents, which ``blockdev-create`` would destroy."""
    looked = {"driver": "file", "node-name": node, "filename": file, "read-only": True}
    try:
        await call.execute("blockdev-add", looked)
    except CommandError as error:
        if str(error).endswith("No such file or directory"):
            return
        raise
    try:
        (found,) = [each for each in await call.execute(_NODES) if each["node-name"] == node]
    finally:
        await call.execute("blockdev-del", {"node-name": node})
    if found["image"]["virtual-size"]:
        raise CommandError(f"Could not create '{file}': it already exists and is not empty")


async def _run_job(call: Call, job: str, options: Mapping[str, Any]) -> None:
    """Run ``blockdev-create`` to its end. Raises CommandError."""
    job = with_job_id(call.monitor.target, job)["job-id"]
    await call.execute("blockdev-create", {"job-id": job, "options": dict(options)})
    try:
        await wait_for_job(call, job)
    finally:
        await call.execute("job-dismiss", {"id": job})


def _seen_from(overlay: str, node: Mapping[str, Any]) -> str:
    """Return how an overlay's file names its backing image. Raises LineError if it would not find it."""
    backing = str(node["image"]["filename"])
    if ":" in backing.split("/")[0] or os.path.isabs(backing):
        return backing
    if os.path.isabs(overlay):
        raise LineError(
            f"snapshot_blkdev: '{overlay}' would not find '{backing}', which is relative to the daemon's"
            " folder: write both paths relative, or add the disk with its absolute path"
        )
    return os.path.relpath(backing, os.path.dirname(overlay) or ".")

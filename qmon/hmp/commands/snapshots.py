"""Snapshots of drives and of the machine, and writing an overlay to its backing image."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from qmon.errors import CommandError
from qmon.hmp.clients import count_clients, users
from qmon.hmp.commands.caution import confirm
from qmon.hmp.commands.image_info import snapshot_lines
from qmon.hmp.handlers import Call, handler
from qmon.hmp.person import LineError
from qmon.qmp.target import MACHINE

NOT_PERMITTED = ": Operation not permitted"
"""The end of the error of a commit if the overlay is open read-only."""
READ_ONLY = "Block node is read-only"
"""QEMU prints this line before that error."""


@handler("hmp_info_snapshots", "x-qmon-query-snapshots")
async def info_snapshots(call: Call) -> None:
    try:
        drives = await call.execute("x-qmon-query-snapshots")
    except CommandError as error:
        raise LineError(str(error)) from error
    for line in snapshot_list(drives):
        call.print(line)


def snapshot_list(drives: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines for all drives' snapshots. A snapshot that all drives have is one of the machine."""
    if not any(drive["snapshots"] for drive in drives):
        return ["There is no snapshot available."]
    names = [{snapshot["name"] for snapshot in drive["snapshots"]} for drive in drives]
    common = set.intersection(*names)
    whole = [snapshot for snapshot in drives[0]["snapshots"] if snapshot["name"] in common]
    lines = ["List of snapshots present on all disks:"]
    lines += snapshot_lines(whole, with_ids=False) if whole else ["None"]
    for drive in drives:
        partial = [snapshot for snapshot in drive["snapshots"] if snapshot["name"] not in common]
        if partial:
            lines += ["", f"List of partial (non-loadable) snapshots on '{drive['device']}':"]
            lines += snapshot_lines(partial)
    return lines


def _named(call: Call) -> dict[str, Any]:
    return {"name": call.text("name")} if "name" in call.values else {}


@handler("hmp_savevm", "x-qmon-savevm")
async def savevm(call: Call) -> None:
    await call.execute("x-qmon-savevm", _named(call))


@handler("hmp_loadvm", "x-qmon-loadvm")
async def loadvm(call: Call) -> None:
    if call.person.interactive and (clients := await count_clients(call.monitor.line_target)):
        question = f"{users(clients, 'the drives')}: load the snapshot anyway?"
        await confirm(call, question, "The snapshot was not loaded")
    await call.execute("x-qmon-loadvm", _named(call))


@handler("hmp_delvm", "x-qmon-delvm")
async def delvm(call: Call) -> None:
    await call.execute("x-qmon-delvm", _named(call))


@handler("hmp_commit", "x-qmon-commit")
async def commit(call: Call) -> None:
    try:
        await call.execute("x-qmon-commit", {"device": call.text("device")})
    except CommandError as error:
        why = str(error)
        raise LineError(f"{READ_ONLY}\n{why}" if why.endswith(NOT_PERMITTED) else why) from error


@handler("hmp_snapshot_blkdev", "blockdev-snapshot-sync", MACHINE)
async def snapshot_blkdev(call: Call) -> None:
    if "snapshot-file" not in call.values:
        raise CommandError("Parameter 'snapshot-file' is missing")
    arguments: dict[str, Any] = {
        "device": call.text("device"),
        "snapshot-file": call.text("snapshot-file"),
        "mode": "existing" if call.flag("reuse") else "absolute-paths",
    }
    if "format" in call.values:
        arguments["format"] = call.text("format")
    await call.execute("blockdev-snapshot-sync", arguments)


@handler("hmp_snapshot_blkdev_internal", "blockdev-snapshot-internal-sync")
async def snapshot_blkdev_internal(call: Call) -> None:
    arguments = {"device": call.text("device"), "name": call.text("name")}
    await call.execute("blockdev-snapshot-internal-sync", arguments)


@handler("hmp_snapshot_delete_blkdev_internal", "blockdev-snapshot-delete-internal-sync")
async def snapshot_delete_blkdev_internal(call: Call) -> None:
    arguments = {"device": call.text("device"), "name": call.text("name")}
    if "id" in call.values:
        arguments["id"] = call.text("id")
    await call.execute("blockdev-snapshot-delete-internal-sync", arguments)

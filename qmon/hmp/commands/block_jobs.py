"""Block jobs: starting, controlling and listing them."""

from __future__ import annotations

from typing import Any

from qmon.errors import CommandError
from qmon.hmp.disks import with_job_id
from qmon.hmp.handlers import Call, handler

CHECK = "x-qmon-check-copy"
NOT_THERE = "{command}: copying a disk with a block job is not supported: use migrate -b to copy it to a host"


@handler("hmp_info_block_jobs", "query-block-jobs")
async def info_block_jobs(call: Call) -> None:
    jobs = await call.execute("query-block-jobs")
    if not jobs:
        call.print("No active jobs")
    for job in jobs:
        if job["type"] == "stream":
            call.print(
                f"Streaming device {job['device']}: Completed {job['offset']} of {job['len']} bytes,"
                f" speed limit {job['speed']} bytes/s"
            )
        else:
            call.print(
                f"Type {job['type']}, device {job['device']}: Completed {job['offset']} of {job['len']}"
                f" bytes, speed limit {job['speed']} bytes/s"
            )


@handler("hmp_block_stream", "block-stream")
async def block_stream(call: Call) -> None:
    arguments: dict[str, Any] = {
        "job-id": call.text("device"),
        **with_job_id(call.monitor.target, call.text("device")),
        "speed": call.values.get("speed", 0),
        "on-error": "report",
    }
    if "base" in call.values:
        arguments["base"] = call.text("base")
    await call.execute("block-stream", arguments)


@handler("hmp_block_job_set_speed", "block-job-set-speed")
async def block_job_set_speed(call: Call) -> None:
    arguments = {"device": call.text("device"), "speed": call.values["speed"]}
    await call.execute("block-job-set-speed", arguments)


@handler("hmp_block_job_cancel", "block-job-cancel")
async def block_job_cancel(call: Call) -> None:
    arguments = {"device": call.text("device"), "force": call.flag("force")}
    await call.execute("block-job-cancel", arguments)


@handler("hmp_block_job_pause", "block-job-pause")
async def block_job_pause(call: Call) -> None:
    await call.execute("block-job-pause", {"device": call.text("device")})


@handler("hmp_block_job_resume", "block-job-resume")
async def block_job_resume(call: Call) -> None:
    await call.execute("block-job-resume", {"device": call.text("device")})


@handler("hmp_block_job_complete", "block-job-complete")
async def block_job_complete(call: Call) -> None:
    await call.execute("block-job-complete", {"device": call.text("device")})


def _copy(call: Call) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        **with_job_id(call.monitor.target, call.text("device")),
        "target": call.text("target"),
        "sync": "full" if call.flag("full") else "top",
        "mode": "existing" if call.flag("reuse") else "absolute-paths",
    }
    if "format" in call.values:
        arguments["format"] = call.text("format")
    return arguments


@handler("hmp_drive_mirror", "drive-mirror")
async def drive_mirror(call: Call) -> None:
    await call.execute("drive-mirror", {**_copy(call), "unmap": True})


@handler("hmp_drive_mirror", CHECK)
async def refuse_drive_mirror(call: Call) -> None:
    await _refuse_copy(call, "drive-mirror", _copy(call))


@handler("hmp_drive_backup", "drive-backup")
async def drive_backup(call: Call) -> None:
    await call.execute("drive-backup", {**_copy(call), "compress": call.flag("compress")})


@handler("hmp_drive_backup", CHECK)
async def refuse_drive_backup(call: Call) -> None:
    await _refuse_copy(call, "drive-backup", {**_copy(call), "compress": call.flag("compress")})


async def _refuse_copy(call: Call, command: str, arguments: dict[str, Any]) -> None:
    """Refuse what QEMU refuses, in its words; then say that nothing can be copied."""
    del arguments["sync"]
    await call.execute(CHECK, arguments)
    raise CommandError(NOT_THERE.format(command=command))

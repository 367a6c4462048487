"""The copies of the disks: one mirror job each, from the source's QEMU to an export of the destination's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from qmon.errors import CommandError
from qmon.notation.plain_text import one_line
from qmon.remote.migration.agreement.inventory import Disk
from qmon.remote.migration.qemu import Qemu

END_SECONDS = 120.0
"""16 MiB may be on their way, on a slow line."""

BACKGROUND, WRITE_BLOCKING = "background", "write-blocking"


@dataclass(frozen=True, slots=True)
class Copy:
    """The copy of one disk: the names of ours for it."""

    disk: Disk
    other: Disk
    job: str
    node: str
    export: str


async def add_target(qemu: Qemu, copy: Copy, server: Mapping[str, Any]) -> None:
    """Add the NBD node for a copy; ``server`` is a SocketAddress (QAPI). Raises CommandError."""
    target = {"driver": "nbd", "node-name": copy.node, "export": copy.export, "discard": "unmap"}
    await qemu("blockdev-add", {**target, "server": server})


async def start_copy(qemu: Qemu, copy: Copy, *, inc: bool, mode: str, buffer: int) -> None:
    """Start the mirror; ``buffer`` is the bytes that it may have on its way. Raises CommandError."""
    mirror = {
        "job-id": copy.job,
        "device": copy.disk.node,
        "target": copy.node,
        "sync": "top" if inc and copy.disk.backing else "full",
        "copy-mode": mode,
        "buf-size": buffer,
        "on-source-error": "report",
        "on-target-error": "report",
        "auto-dismiss": False,
    }
    await qemu("blockdev-mirror", mirror)


async def start_anew(qemu: Qemu, copy: Copy, *, inc: bool, mode: str, buffer: int) -> None:
    """End the mirror, and start it again from the beginning. Raises CommandError.

    What is on its way arrives first, which takes its time on a slow line.
    """
    await qemu.end_job(copy.job, patience=END_SECONDS)
    await start_copy(qemu, copy, inc=inc, mode=mode, buffer=buffer)


async def switch_copy(qemu: Qemu, copy: Copy) -> None:
    """Make a mirror write-blocking that runs (QEMU 8.2 and later). Raises CommandError."""
    await qemu("block-job-change", {"id": copy.job, "type": "mirror", "copy-mode": WRITE_BLOCKING})


async def check_copies(qemu: Qemu, copies: Sequence[Copy]) -> dict[str, dict[str, Any]]:
    """Return the jobs. Raises CommandError if one has ended."""
    jobs = await qemu.jobs()
    for each in copies:
        job = jobs.get(each.job)
        if job is None or job["status"] in ("concluded", "aborting", "null"):
            raise _failed(each, job)
    return jobs


async def complete_copies(qemu: Qemu, copies: Sequence[Copy]) -> list[Copy]:
    """Dismiss the copies that have ended well; return the others. Raises CommandError if one has failed."""
    jobs = await qemu.jobs()
    left = []
    for each in copies:
        job = jobs.get(each.job)
        if job is None or job.get("error"):
            raise _failed(each, job)
        if job["status"] == "concluded":
            await qemu("job-dismiss", {"id": each.job})
        else:
            left.append(each)
    return left


def _failed(copy: Copy, job: Mapping[str, Any] | None) -> CommandError:
    why = (job or {}).get("error", "its job has ended")
    return CommandError(f"the copy of drive '{copy.disk.name}' failed: {one_line(str(why))}")

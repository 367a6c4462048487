"""What on one side is in the way of a migration, whatever the other side has. Pure.

Each line names the thing, what is wrong with it and what would be right.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from qmon.remote.migration.agreement.capabilities import ON, ON_AT_SOURCE, refusals
from qmon.remote.migration.agreement.inventory import Inventory
from qmon.remote.migration.qemu import OURS

QEMU_OLDEST = "5.2"
"""The first QEMU with all commands of ``BOTH``, ``SOURCE`` and ``DESTINATION``."""

BOTH = frozenset(
    "query-status query-block query-migrate query-named-block-nodes query-block-exports query-jobs stop cont"
    " migrate-set-capabilities migrate-set-parameters query-migrate-capabilities object-add object-del"
    " qom-get qom-set getfd closefd".split()
)
SOURCE = frozenset(
    "migrate migrate_cancel migrate-continue blockdev-add blockdev-del blockdev-mirror block-job-cancel"
    " job-dismiss query-block-jobs".split()
)
DESTINATION = frozenset(
    "migrate-incoming nbd-server-start nbd-server-stop block-export-add block-export-del quit".split()
)

PASSED_THROUGH = frozenset(("scsi-block", "scsi-generic"))
"""Types of devices that give the guest's commands to the host's disk: a mirror would miss its writes."""

_NOT_RUNNING = {
    "paused": "the guest is paused: resume it with 'cont'",
    "prelaunch": "the guest has not been started: start it with 'cont'",
    "postmigrate": "the guest has moved away: it is at the other side of that migration",
    "finish-migrate": "a migration is under way, which has stopped the guest: end it with 'migrate_cancel'",
    "inmigrate": "this QEMU waits for a guest to come: a migration starts where the guest runs",
    "io-error": "the guest stands because of an I/O error: mend the cause, then 'cont'",
    "suspended": "the guest is suspended: wake it with 'system_wakeup'",
    "shutdown": "the guest has shut down: 'system_reset' and 'cont' start it again",
    "guest-panicked": "the guest has panicked: 'system_reset' starts it again",
    "internal-error": "QEMU has met an internal error: 'system_reset' starts the guest again",
    "save-vm": "a snapshot is being saved: wait for its end",
    "restore-vm": "a snapshot is being loaded: wait for its end",
    "colo": "the guest is kept in step with another one (COLO): end that first",
}
_AT_REST = frozenset(("", "none", "completed", "cancelled", "failed"))
"""States of a migration that is not under way."""


def wrong_with_source(side: Inventory) -> Iterator[str]:
    """Yield a line for each thing that the source, whose console tells it, must be rid of."""
    yield from side.obstacles
    if not side.status:
        yield "a qemu-storage-daemon has no guest: connect to the QEMU that runs the guest"
        return
    yield from _lacking(side, "this QEMU", BOTH | SOURCE, ON + ON_AT_SOURCE)
    if side.migration not in _AT_REST and side.status != "inmigrate":
        yield (
            f"a migration is under way ({side.migration}): wait for its end, or end it with 'migrate_cancel'"
        )
    elif side.status != "running":
        yield _NOT_RUNNING.get(side.status, f"the guest's state is '{side.status}': it must run")
    yield from _in_use(side)
    yield from refusals(side.capabilities, side.parameters)
    yield from (f"QEMU can't move the guest: {each}: remove what is named there" for each in side.blockers)
    for disk in side.disks:
        if disk.device_type in PASSED_THROUGH:
            yield (
                f"drive '{disk.name}' is a {disk.device_type}: QEMU does not see what the guest writes to it,"
                " so it can't be copied: use a scsi-hd"
            )
        if disk.io_status not in ("", "ok"):
            yield (f"drive '{disk.name}' has had an I/O error ({disk.io_status}): mend the cause, and 'cont'")


def wrong_with_destination(side: Inventory) -> Iterator[str]:
    """Yield a line for each thing that the destination must be rid of, for the source's console."""
    yield from (f"destination: {line}" for line in _wrong_with_destination(side, "its QEMU"))


def wrong_here(side: Inventory) -> Iterator[str]:
    """As ``wrong_with_destination``, for the destination's own console."""
    yield from _wrong_with_destination(side, "this QEMU")


def _wrong_with_destination(side: Inventory, qemu: str) -> Iterator[str]:
    """``qemu`` is what the one who reads it calls the destination's QEMU."""
    yield from side.obstacles
    if not side.status:
        yield "a qemu-storage-daemon takes no guest: start a QEMU with -incoming defer"
        return
    yield from _lacking(side, qemu, BOTH | DESTINATION, ON)
    if side.status != "inmigrate":
        yield (
            f"{qemu} does not wait for a migration (its state is '{side.status}'): start it with"
            " -incoming defer"
        )
    elif side.is_listening or side.migration not in ("", "none"):
        yield _listening(side, qemu)
    yield from _in_use(side)
    yield from refusals(side.capabilities, side.parameters)


def _listening(side: Inventory, qemu: str) -> str:
    if side.migration in ("", "none", "setup"):
        return (
            f"{qemu} itself waits for a migration at an address: start it with -incoming defer, and qmon"
            " with -incoming tcp:HOST:PORT"
        )
    return (
        f"{qemu} has begun to take a migration ({side.migration}), and takes one only: start it again with"
        " -incoming defer"
    )


def _lacking(
    side: Inventory, qemu: str, commands: frozenset[str], capabilities: Sequence[str]
) -> Iterator[str]:
    lacks = [f"command {name}" for name in sorted(commands - side.commands)]
    if not lacks:
        lacks = [f"migration capability {name}" for name in capabilities if name not in side.capabilities]
    if lacks:
        shown = ", ".join(lacks[:3]) + (f" and {len(lacks) - 3} more" if len(lacks) > 3 else "")
        version = ".".join(map(str, side.version))
        yield f"{qemu} ({version}) has no {shown}: QEMU {QEMU_OLDEST} or later is needed"


def _in_use(side: Inventory) -> Iterator[str]:
    for job in side.jobs:
        if not job.startswith(OURS):
            name = job.partition(" (")[0]
            yield f"job {job} has not ended: wait for its end, or end it with 'block_job_cancel {name}'"
    for export in side.exports:
        if not export.startswith(OURS):
            name = export.partition(" of ")[0]
            yield f"export {export} is in use by others: remove it with 'nbd_server_remove {name}'"
